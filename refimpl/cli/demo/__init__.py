"""``refimpl demo``: everything at work at once, each domain a process, and every byte checked."""

from __future__ import annotations

import sys

import click

from refimpl.cli.options import json_option
from refimpl.cli.processes import stop_nobodys
from refimpl.cli.signals import unwinding


@click.command()
@click.option(
    "--size", "size_bytes", type=click.IntRange(1), default=8 << 20, show_default=True, help="Bytes of the large file."
)
@click.option("--quiet", is_flag=True, help="Only the table at the end.")
@json_option
def demo(size_bytes: int, quiet: bool, as_json: bool) -> int:
    """Watch PV Calls work: a store, a toolstack, a backend and two guests, each a process of its own.

    \b
    Guest 1 fetches files over HTTP from Python's own http.server, through PV Calls.
    Guest 2 listens through PV Calls; an ordinary client outside and guest 1 visit it.

    Every step of the protocol is printed with the section of the document it comes from; then a table of what
    crossed. Ends with status 0 only if every byte was right. Takes a few seconds and leaves nothing behind.
    """
    from refimpl.cli.demo.report import Report
    from refimpl.cli.demo.stage import play

    report = Report(sys.stdout, quiet=quiet or as_json)
    with unwinding(stop_nobodys):
        play(report, size_bytes)
    if as_json:
        report.print_json()
    else:
        report.print_table()
    return 0 if report.is_right else 1
