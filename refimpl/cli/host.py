"""``refimpl host``: all that a laptop needs, in one command."""

from __future__ import annotations

import contextlib
import json
import signal
import sys

import click

from refimpl.cli.options import (
    check_trace_file,
    json_option,
    parse_policy,
    policy_option,
    ready_option,
    report_ready,
    run_option,
    trace_file_option,
)
from refimpl.cli.processes import Child, wait_for_any
from refimpl.cli.signals import calling, stop_descriptor


@click.command()
@run_option
@click.option("--allow", multiple=True, metavar="RULE", help="As `refimpl backend --allow`; may be repeated.")
@click.option("--deny", multiple=True, metavar="RULE", help="As `refimpl backend --deny`; may be repeated.")
@policy_option
@click.option("--trace", is_flag=True, help="Print each call with its result and time.")
@click.option("--steps", is_flag=True, help="Print each step of each call too, with its section.")
@trace_file_option
@json_option
@ready_option
def host(
    run_directory: str,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    policy_path: str | None,
    trace: bool,
    steps: bool,
    trace_file: str | None,
    as_json: bool,
    ready_fd: int | None,
) -> int:
    """Run the store, the toolstack and a backend, each a process, until Ctrl-C.

    Any number of guests can then come: `refimpl connect`, `refimpl listen`, programs that use the Python API.

    \b
    Here guests are your own programs, so they may reach everything this machine reaches, unless --deny says otherwise.
    Debian's xenstore tools show the tree:

    \b
        XENSTORED_PATH=DIR/0.socket xenstore-ls -f
    """
    from refimpl.shm.run_directory import store_path

    parse_policy(allow, deny, path=policy_path)  # What is wrong with it is said before anything runs.
    check_trace_file(trace_file)
    rules = [word for rule in allow for word in ("--allow", rule)] + [
        word for rule in deny for word in ("--deny", rule)
    ]
    for name, path in (("policy", policy_path), ("trace-file", trace_file)):
        rules += [f"--{name}", path] if path is not None else []
    flags = [f"--{name}" for name, on in (("trace", trace), ("steps", steps), ("json", as_json)) if on]
    run = ("--run", run_directory)
    with contextlib.ExitStack() as stack:
        stopping = stack.enter_context(stop_descriptor())
        children = [
            stack.enter_context(Child("store", *run, waits_until_ready=True)),
            stack.enter_context(Child("toolstack", "serve", *run, waits_until_ready=True)),
            stack.enter_context(Child("backend", *run, "--allow-everything", *rules, *flags, waits_until_ready=True)),
        ]
        if policy_path is not None:
            serving = children[-1].process
            stack.enter_context(calling(lambda: serving.send_signal(signal.SIGHUP), [signal.SIGHUP]))
        _say(run_directory, store_path(run_directory, 0), bool(deny or policy_path), as_json)
        report_ready(ready_fd)
        ended = wait_for_any(children, stopping)
        if ended is not None:
            print(f"refimpl: the {ended.name} process ended by itself; stopping the others", file=sys.stderr)
            return 1
    return 0


def _say(run_directory: str, store_path: str, has_denials: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"run": run_directory, "xenstored_path": store_path}), flush=True)
        return
    reach = (
        "what --deny and --policy leave of all this machine reaches"
        if has_denials
        else "everything this machine reaches"
    )
    print(f"host: ready in {run_directory}; guests may reach {reach}; Ctrl-C stops")
    print(f"  a guest:   refimpl connect --run {run_directory} HOST PORT")
    print(f"  the store: XENSTORED_PATH={store_path} xenstore-ls -f", flush=True)
