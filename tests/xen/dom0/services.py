"""What guests talk to: small TCP services in dom0, each connection in a thread of its own."""

from __future__ import annotations

import contextlib
import hashlib
import random
import select
import socket
import threading
from collections.abc import Callable, Iterator

from guests import DOM0_ADDRESS

_BUFFERED = 1 << 20
_change = threading.Condition()
_live = 0


def await_connections(count: int, patience: float = 60) -> None:
    """Wait until so many connections to the services are open."""
    with _change:
        reached = _change.wait_for(lambda: _live == count, patience)
    assert reached, f"{_live} connections are open, not {count}"


def echo(connection: socket.socket) -> None:
    """Send back what comes, in capitals; take up to a megabyte that is not read back yet."""
    connection.setblocking(False)
    waiting, ended = bytearray(), False
    while waiting or not ended:
        reading = [connection] if not ended and len(waiting) < _BUFFERED else []
        readable, writable, _ = select.select(reading, [connection] if waiting else [], [])
        if readable:
            chunk = connection.recv(65536)
            ended = not chunk
            waiting += chunk.upper()
        if writable:
            del waiting[: connection.send(waiting)]


def digest(connection: socket.socket) -> None:
    """Take a length in 8 bytes and so many bytes; answer with their SHA-256."""
    left = int.from_bytes(_receive(connection, 8), "big")
    sum_of_all = hashlib.sha256()
    while left and (chunk := connection.recv(min(left, 65536))):
        sum_of_all.update(chunk)
        left -= len(chunk)
    connection.sendall(sum_of_all.digest())
    connection.recv(1)  # The guest closes.


def source(connection: socket.socket) -> None:
    """Take a length in 8 bytes; send so many bytes that follow from it, and close."""
    count = int.from_bytes(_receive(connection, 8), "big")
    connection.sendall(random.Random(count).randbytes(count))


def call_back(connection: socket.socket) -> None:
    """Take a TCP port number in 2 bytes; connect to it, knock, and hand on what comes."""
    port_number = int.from_bytes(_receive(connection, 2), "big")
    with socket.create_connection(("127.0.0.1", port_number), 20) as called:
        called.sendall(b"knock")
        while chunk := called.recv(65536):
            connection.sendall(chunk)


def _receive(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        if not chunk:
            raise ConnectionResetError("the other end closed")
        received += chunk
    return received


SERVICES: dict[tuple[str, int], Callable[[socket.socket], None]] = {
    ("127.0.0.1", 7001): echo,
    ("127.0.0.1", 7002): digest,
    ("127.0.0.1", 7003): source,
    (DOM0_ADDRESS, 7004): call_back,
}


def _count(step: int) -> None:
    global _live
    with _change:
        _live += step
        _change.notify_all()


def _serve(listener: socket.socket, service: Callable[[socket.socket], None]) -> None:
    def one(connection: socket.socket) -> None:
        _count(1)
        with connection, contextlib.suppress(OSError):
            service(connection)
        _count(-1)

    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Have all services for a block."""
    with contextlib.ExitStack() as stack:
        for address, service in SERVICES.items():
            listener = stack.enter_context(socket.create_server(address, backlog=128))
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=_serve, args=(listener, service), daemon=True).start()
        yield
