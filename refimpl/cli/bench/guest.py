"""The process that measures: a guest, or a program with the system's own sockets. Told cases, it answers figures."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Callable
from typing import Any

import click

from refimpl.cli.bench.workloads import Case, Effort, measure
from refimpl.cli.options import open_platform


def connect_directly(port: int) -> socket.socket:
    """Connect a socket of the system's, with the options that the backend sets."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _answer(line: str, connect: Callable[[int], Any]) -> dict[str, Any]:
    order = json.loads(line)
    try:
        figure, p99 = measure(Case(**order["case"]), lambda: connect(order["port"]), Effort(**order["effort"]))
    except OSError as error:
        return {"failed": str(error)}
    return {"figure": figure, "p99": p99}


@click.command(hidden=True)
@click.option("--run", "run_directory", help="Be a guest of this run; without it, use the system's sockets.")
@click.option("--ring-order", type=int)
def bench_guest(run_directory: str | None, ring_order: int | None) -> None:
    """One of the measuring processes of `refimpl bench`: a case a line on stdin, its figure a line on stdout."""
    with contextlib.ExitStack() as stack:
        connect: Callable[[int], Any] = connect_directly
        if run_directory is not None:
            from refimpl.frontend import Frontend

            platform = stack.enter_context(open_platform("shm", run_directory))
            frontend = stack.enter_context(Frontend.open(platform, ring_order=ring_order))

            def connect(port: int) -> Any:
                return frontend.create_connection(("127.0.0.1", port))

        print("{}", flush=True)
        for line in sys.stdin:
            print(json.dumps(_answer(line, connect)), flush=True)
