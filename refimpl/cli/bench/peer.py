"""The other end of every measurement: an ordinary TCP server, a process of its own, that knows nothing of PV Calls."""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable

import click

from refimpl.cli.bench.workloads import HEADER, SINK, SOURCE

_BUFFER_BYTES = 1 << 20
_BACKLOG = 1024


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            return b""
        data += piece
    return data


def _sink(connection: socket.socket, left: int, buffer: bytearray) -> None:
    while left > 0:
        received = connection.recv_into(buffer, min(len(buffer), left))
        if not received:
            return
        left -= received
    connection.sendall(b".")


def _serve_stream(connection: socket.socket) -> None:
    """Do what each header on the connection says, until it ends."""
    buffer = bytearray(_BUFFER_BYTES)
    while header := _read_exactly(connection, HEADER.size):
        what, size, count = HEADER.unpack(header)
        if what == SINK:
            _sink(connection, size * count, buffer)
        elif what == SOURCE:
            message = bytes(size)
            for _ in range(count):
                connection.sendall(message)
        else:
            _echo(connection, size, processor=count - 1)


def _echo(connection: socket.socket, size: int, processor: int) -> None:
    """Send back what comes until it ends, on one processor; -1 is any."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor} if processor >= 0 else allowed)
    try:
        while data := connection.recv(size):
            connection.sendall(data)
    finally:
        os.sched_setaffinity(0, allowed)


def _wait_for_end(connection: socket.socket) -> None:
    connection.recv(1)


def _serve_each(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Serve one connection after another."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                serve(connection)
            except OSError:
                pass  # It was reset: the guest has what it wanted.


def _echo_to_all(listener: socket.socket) -> None:
    """Send back what comes, on any number of connections at a time."""
    poller, connections = select.epoll(), {}
    poller.register(listener, select.EPOLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                poller.register(connection, select.EPOLLIN)
                continue
            try:
                data = connections[descriptor].recv(65536)
                connections[descriptor].sendall(data)
            except OSError:
                data = b""
            if not data:
                connections.pop(descriptor).close()


@click.command(hidden=True)
@click.argument("role", type=click.Choice(["stream", "end", "echo"]))
def bench_peer(role: str) -> None:
    """One of the peers of `refimpl bench`; prints its TCP port number."""
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
        print(listener.getsockname()[1], flush=True)
        sys.stdout.close()
        if role == "echo":
            _echo_to_all(listener)
        else:
            _serve_each(listener, _serve_stream if role == "stream" else _wait_for_end)
