"""``refimpl backend``: serve every guest."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from refimpl.cli.options import (
    json_option,
    open_platform,
    parse_policy,
    platform_option,
    ready_option,
    report_ready,
    run_option,
)
from refimpl.cli.output import plain
from refimpl.cli.signals import calling

if TYPE_CHECKING:
    from refimpl.backend import Statistics


@click.command()
@run_option
@platform_option
@click.option(
    "--allow", multiple=True, metavar="RULE", help="Allow what RULE says, before the defaults; may be repeated."
)
@click.option(
    "--deny", multiple=True, metavar="RULE", help="Refuse what RULE says, before any --allow; may be repeated."
)
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
@json_option
@ready_option
def backend(
    run_directory: str,
    platform_name: str,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    allow_everything: bool,
    max_page_order: int,
    draft_nodes: bool,
    draft_layouts: bool,
    trace: bool,
    steps: bool,
    as_json: bool,
    ready_fd: int | None,
) -> None:
    """Run the backend until Ctrl-C: it makes the sockets that guests ask for, in this process's network.

    It serves every guest with a PV Calls device, those there are and those to come, over real Xen or between processes.

    \b
    RULE is [connect:|bind:]NETWORK[:PORTS]. NETWORK is an IPv4 address or network, `own` for whatever stays on this
    host, or `any`; PORTS a port number or a range. The first rule that matches decides; then come the defaults: a
    connect to this host reaches only what guests listen on, link-local addresses and binds below 1024 are refused,
    the rest is allowed. A refusal says which rule it was.

    \b
        refimpl backend --allow connect:127.0.0.1:8000-8080 --deny connect:10.0.0.0/8
    """
    from refimpl.backend import Backend, Settings
    from refimpl.cli.trace import Trace

    settings = Settings(
        max_ring_order=max_page_order,
        policy=parse_policy(allow, deny, allow_everything=allow_everything),
        draft_nodes=draft_nodes,
        draft_layouts=draft_layouts,
        observer=Trace(as_json=as_json, with_steps=steps) if trace or steps else None,
    )
    with open_platform(platform_name, run_directory, domid=0) as platform:
        serving = Backend(platform, settings)
        with calling(serving.stop):
            report_ready(ready_fd)
            if sys.stderr.isatty():
                print(f"backend: domain {platform.domid} on {platform.name}, until Ctrl-C", file=sys.stderr)
            try:
                serving.run()
            finally:
                if as_json:
                    _print_statistics(serving.statistics())


def _print_statistics(totals: dict[int, Statistics]) -> None:
    """Print the sums of each guest, a last line for a program."""
    sums = {guest: plain(total) for guest, total in totals.items()}
    print(json.dumps({"who": "backend", "statistics": sums}), flush=True)
