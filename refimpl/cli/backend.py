"""``refimpl backend``: serve every guest."""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refimpl.cli.options import (
    json_option,
    open_platform,
    parse_policy,
    platform_option,
    policy_option,
    ready_option,
    report_ready,
    run_option,
    status_path,
    trace_file_option,
)
from refimpl.cli.output import plain
from refimpl.cli.signals import calling
from refimpl.errors import Misuse

if TYPE_CHECKING:
    from refimpl.backend import Backend, Policy, Statistics


@click.command()
@run_option
@platform_option
@click.option(
    "--allow", multiple=True, metavar="RULE", help="Allow what RULE says, before the defaults; may be repeated."
)
@click.option(
    "--deny", multiple=True, metavar="RULE", help="Refuse what RULE says, before any --allow; may be repeated."
)
@policy_option
@click.option("--allow-everything", is_flag=True, help="No defaults: allow what no --deny refuses.")
@click.option(
    "--max-page-order",
    type=click.IntRange(1, 9),
    default=9,
    show_default=True,
    help="Largest data ring, log2 of pages.",
)
@click.option(
    "--draft-nodes/--no-draft-nodes", default=True, show_default=True, help="Also publish the drafts' node names."
)
@click.option("--draft-layouts", is_flag=True, help="Take the drafts' indexes pages too, told by their content.")
@click.option("--trace", is_flag=True, help="Print each call with its result and time.")
@click.option("--steps", is_flag=True, help="Print each step of each call too, with its section.")
@trace_file_option
@json_option
@ready_option
def backend(
    run_directory: str,
    platform_name: str,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    policy_path: str | None,
    allow_everything: bool,
    max_page_order: int,
    draft_nodes: bool,
    draft_layouts: bool,
    trace: bool,
    steps: bool,
    trace_file: str | None,
    as_json: bool,
    ready_fd: int | None,
) -> None:
    """Run the backend until Ctrl-C: it makes the sockets that guests ask for, in this process's network.

    It serves every guest with a PV Calls device, those there are and those to come, over real Xen or between processes.

    \b
    RULE is [guestN:][CALL:]NETWORK[:PORTS], or without a network guestN, CALL or guestN:CALL. CALL is one of the seven,
    such as connect; NETWORK an IPv4 address or network, `own` for whatever stays on this host, or `any`; PORTS a port
    number or a range. The first rule that matches decides: those of --deny, of --allow, of --policy, in this order.
    Then come the defaults: a connect to this host reaches only what guests listen on, link-local addresses and binds
    below 1024 are refused, the rest is allowed. A refusal says which rule it was. Where no rule allows a bind below
    1024, the capability for it is given up at the start: a later policy that does takes a new start.

    \b
        refimpl backend --allow connect:127.0.0.1:8000-8080 --deny connect:10.0.0.0/8
    """
    from refimpl.backend import Backend, Settings
    from refimpl.cli.privileges import give_up_low_ports
    from refimpl.cli.trace import Trace, trace_lines

    read_policy = functools.partial(parse_policy, allow, deny, path=policy_path, allow_everything=allow_everything)
    _raise_descriptor_limit()
    settings = Settings(
        max_ring_order=max_page_order, policy=read_policy(), draft_nodes=draft_nodes, draft_layouts=draft_layouts
    )
    give_up_low_ports(settings.policy)
    say: Callable[[str], object] = functools.partial(print, flush=True)
    with contextlib.ExitStack() as stack:
        if trace or steps or trace_file is not None:
            put = stack.enter_context(trace_lines(trace_file, as_json=as_json))
            settings.observer = Trace(put, as_json=as_json, with_steps=steps)
            say = put if trace_file is None else say
        platform = stack.enter_context(open_platform(platform_name, run_directory, domid=0))
        serving = Backend(platform, settings)
        _serve_status(serving, status_path(platform_name, run_directory))
        if policy_path is not None:
            stack.enter_context(calling(_reload_of(serving, read_policy), [signal.SIGHUP]))
        with calling(serving.stop):
            report_ready(ready_fd)
            if sys.stderr.isatty():
                print(f"backend: domain {platform.domid} on {platform.name}, until Ctrl-C", file=sys.stderr)
            try:
                serving.run()
            finally:
                if as_json:
                    say(_sums(serving.statistics()))


def _raise_descriptor_limit() -> None:
    """Take all the descriptors this process may have, and say if that is less than one guest's limit of sockets."""
    from refimpl.backend.limits import Limits, SharedDescriptors

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # SEC-B-6
    most = SharedDescriptors().most_of_one
    if most < Limits().sockets:
        print(
            f"refimpl: the limit of {hard} descriptors leaves a guest {most} sockets of {Limits().sockets}, and fewer "
            "beside others; `ulimit -Hn` (systemd: LimitNOFILE=) raises it",
            file=sys.stderr,
        )


def _serve_status(serving: Backend, path: str) -> None:
    """Let `refimpl top` ask; where that cannot be, the backend serves all the same."""
    try:
        Path(path).parent.mkdir(mode=0o700, exist_ok=True)
        serving.serve_status(path)
    except OSError as error:
        print(f"refimpl: no `refimpl top`: {path}: {error.strerror}", file=sys.stderr)


def _reload_of(serving: Backend, read_policy: Callable[[], Policy]) -> Callable[[], None]:
    """Return what a signal's handler calls to have the policy read again."""

    one_at_a_time = threading.Lock()

    def reload() -> None:
        with one_at_a_time:
            try:
                policy = read_policy()
            except Misuse as error:
                print(f"refimpl: {error}\nrefimpl: the old policy stays", file=sys.stderr, flush=True)
            else:
                serving.call(lambda: take(policy))

    def take(policy: Policy) -> None:
        serving.set_policy(policy)
        print(f"refimpl: the policy was read again: {len(policy.rules)} rules", file=sys.stderr, flush=True)

    # A file can keep its reader waiting for ever; the guests' data and calls wait for nothing.
    return lambda: threading.Thread(target=reload, daemon=True).start()


def _sums(totals: dict[int, Statistics]) -> str:
    """Return the sums of each guest, a last line for a program."""
    sums = {guest: plain(total) for guest, total in totals.items()}
    return json.dumps({"who": "backend", "statistics": sums})
