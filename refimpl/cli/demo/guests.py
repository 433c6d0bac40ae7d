"""The demo's two guests: programs that use nothing but the frontend, each in a process of its own.

They print JSON, a line an event: each protocol step, each transfer with its SHA-256, and sums at the end.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from refimpl.cli.options import open_platform, report_ready
from refimpl.cli.output import plain
from refimpl.frontend import Event, Frontend, Socket

_PIECE_BYTES = 256 * 1024
_LONGEST_HEAD = 16 * 1024


def _print(**fields: Any) -> None:
    sys.stdout.write(json.dumps({"at": time.monotonic(), **fields}) + "\n")
    sys.stdout.flush()


class _Guest:
    """A guest that reports what it does under its name."""

    def __init__(self, name: str, run_directory: str) -> None:
        self.name = name
        self._run_directory = run_directory

    def __enter__(self) -> Frontend:
        self._platform = open_platform("shm", self._run_directory)
        _print(who=self.name, domid=self._platform.domid)
        self._frontend = Frontend.open(self._platform, observer=self._observe)
        return self._frontend

    def __exit__(self, *_: object) -> None:
        self._frontend.close()
        _print(who=self.name, statistics=plain(self._frontend.statistics))
        self._platform.close()

    def _observe(self, event: Event) -> None:
        _print(who=self.name, section=event.section, what=event.what)


def _receive_head(socket: Socket) -> tuple[bytes, bytes]:
    """Receive up to the empty line; return the head and what came after it."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = socket.recv(_PIECE_BYTES)
        if not piece or len(received) > _LONGEST_HEAD:
            raise click.ClickException("the peer sent no HTTP head")
        received += piece
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def _fetch(frontend: Frontend, name: str, host: str, port: int, path: str) -> None:
    """Get one file over HTTP and report its hash."""
    with frontend.create_connection((host, port), timeout=10) as socket:
        socket.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        head, body = _receive_head(socket)
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise click.ClickException(f"{path}: {head.splitlines()[0].decode('latin-1')}")
        digest, count = hashlib.sha256(body), len(body)
        while piece := socket.recv(_PIECE_BYTES):
            digest.update(piece)
            count += len(piece)
    _print(who=name, fetched=path, bytes=count, sha256=digest.hexdigest(), source=f"{host}:{port}")


@click.command(hidden=True)
@click.argument("role", type=click.Choice(["fetch", "serve"]))
@click.argument("name")
@click.option("--run", "run_directory", required=True)
@click.option("--port", type=int, required=True, help="TCP port number to fetch from, or to listen on.")
@click.option("--also", type=int, default=0, help="Another TCP port number to fetch the last path from.")
@click.option("--visits", type=int, default=0, help="How many connections to serve.")
@click.option("--ready-fd", type=int)
@click.argument("paths", nargs=-1)
def demo_guest(
    role: str,
    name: str,
    run_directory: str,
    port: int,
    also: int,
    visits: int,
    ready_fd: int | None,
    paths: tuple[str, ...],
) -> None:
    """One of the demo's guests; started by `refimpl demo`."""
    with _Guest(name, run_directory) as frontend:
        if role == "fetch":
            for path in paths:
                _fetch(frontend, name, "127.0.0.1", port, path)
            if also:
                _fetch(frontend, name, "127.0.0.1", also, "/")
        else:
            _serve(frontend, port, visits, Path(paths[0]).read_bytes(), ready_fd)


def _serve(frontend: Frontend, port: int, visits: int, content: bytes, ready_fd: int | None) -> None:
    """Answer each visitor with the content, over HTTP."""
    with frontend.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(30)
        report_ready(ready_fd)
        for _ in range(visits):
            socket, _ = listener.accept()
            with socket:
                _receive_head(socket)
                socket.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode())
                socket.sendall(content)
