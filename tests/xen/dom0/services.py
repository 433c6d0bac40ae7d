"""What guests talk to: small TCP services in dom0, each connection in a thread of its own."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import random
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from guests import DOM0_ADDRESS

_BUFFERED = 1 << 20
_change = threading.Condition()
_live = 0
_collected: queue.SimpleQueue[int] = queue.SimpleQueue()


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
        wants_more = not ended and len(waiting) < _BUFFERED
        poll = select.poll()
        poll.register(connection, select.POLLIN * wants_more | select.POLLOUT * bool(waiting))
        ((_, events),) = poll.poll()
        if wants_more and events & ~select.POLLOUT:
            chunk = connection.recv(65536)
            ended = not chunk
            waiting += chunk.upper()
        if waiting and events & ~select.POLLIN:
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


def half_close(connection: socket.socket) -> None:
    """Say that nothing more will come, and go on listening: leave what comes for :func:`report`."""
    connection.sendall(b"last words")
    connection.shutdown(socket.SHUT_WR)
    collect(connection)


def collect(connection: socket.socket) -> None:
    """Take what comes until its end; leave how much that was for :func:`report`."""
    count = 0
    try:
        while chunk := connection.recv(65536):
            count += len(chunk)
    finally:
        _collected.put(count)


def report(connection: socket.socket) -> None:
    """Tell in 8 bytes how much the next of those that were collected from had sent."""
    connection.sendall(_collected.get(timeout=60).to_bytes(8, "big"))


def reset(connection: socket.socket) -> None:
    """Take a byte, send a few, and be gone: a reset, not the end of the stream."""
    connection.recv(1)
    connection.sendall(b"cut short")
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def call_back(connection: socket.socket) -> None:
    """Take an IPv4 address and a TCP port number in 6 bytes; connect to it, knock, and hand on what comes."""
    address, port_number = struct.unpack("!4sH", _receive(connection, 6))
    with socket.create_connection((socket.inet_ntoa(address), port_number), 60) as called:
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
    ("127.0.0.1", 7005): half_close,
    ("127.0.0.1", 7006): reset,
    ("127.0.0.1", 7007): collect,
    (DOM0_ADDRESS, 7008): report,
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
