"""``refimpl store``: what stands in for the hypervisor and for xenstored."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from refimpl.cli.options import ready_option, report_ready, run_option

if TYPE_CHECKING:
    from refimpl.shm import Host


@click.command()
@run_option
@ready_option
def store(run_directory: str, ready_fd: int | None) -> None:
    """Run a xenstore server until Ctrl-C: it also gives processes their domids and notices their deaths.

    It speaks the real xenstore wire protocol on unix sockets, one a domain, so Debian's tools and pyxs are its clients.
    DIR/0.socket takes whoever connects for domain 0:

    \b
        XENSTORED_PATH=DIR/0.socket xenstore-ls -f
    """
    from refimpl.shm import serve

    def started(host: Host) -> None:
        report_ready(ready_fd)
        if sys.stderr.isatty():
            print(f"store: XENSTORED_PATH={host.store_path}, until Ctrl-C", file=sys.stderr)

    serve(run_directory, started=started)
