"""In a guest: measure one frontend. Each line of input names a case; the answer is how long it took and its own time.

``python3 speed.py refimpl ORDER`` or ``python3 speed.py linux``. An answer is "seconds user system", of this process.
"""

import faulthandler
import os
import sys
import time
from collections.abc import Callable
from typing import Any

FRONT = sys.argv[1]
os.environ.update(FRONT=FRONT, BACK="refimpl")

from sockets import LinuxSockets, receive  # noqa: E402

from refimpl.frontend import Frontend  # noqa: E402
from refimpl.xen import XenPlatform  # noqa: E402

#: dom0/speed_peers.py
SINK, SOURCE, MIRROR = (("127.0.0.1", 7101 + number) for number in range(3))
BULK = 16 << 20
PIECE = 256 << 10
ROUND_TRIPS = 200
CONNECTIONS = 30


def out(connect: Callable[..., Any]) -> Callable[[], None]:
    """Send 16 MiB and hear that they arrived."""
    connection, piece = connect(SINK), bytes(PIECE)

    def run() -> None:
        connection.sendall(BULK.to_bytes(8, "big"))
        for _ in range(BULK // PIECE):
            connection.sendall(piece)
        assert receive(connection, 1)

    return run


def take(connect: Callable[..., Any]) -> Callable[[], None]:
    """Receive 16 MiB."""
    connection, buffer = connect(SOURCE), bytearray(PIECE)

    def run() -> None:
        connection.sendall(BULK.to_bytes(8, "big"))
        left = BULK
        while left:
            left -= connection.recv_into(buffer)

    return run


def ping(connect: Callable[..., Any]) -> Callable[[], None]:
    """Send a byte and receive it, again and again."""
    connection = connect(MIRROR)

    def run() -> None:
        for _ in range(ROUND_TRIPS):
            connection.sendall(b"!")
            assert connection.recv(1)

    return run


def open_and_close(connect: Callable[..., Any]) -> Callable[[], None]:
    """Connect and close, again and again."""

    def run() -> None:
        for _ in range(CONNECTIONS):
            connect(MIRROR).close()

    return run


CASES = {"out": out, "in": take, "ping": ping, "connect": open_and_close}


def main() -> None:
    """Answer until the input ends."""
    if FRONT == "refimpl":
        frontend = Frontend.open(XenPlatform.open(), ring_order=int(sys.argv[2]))

        def connect(address: tuple[str, int]) -> Any:
            return frontend.create_connection(address, timeout=60)
    else:
        connect = LinuxSockets().connect
    for line in sys.stdin:
        faulthandler.dump_traceback_later(100, exit=True)
        run = CASES[line.strip()](connect)
        before, start = os.times(), time.monotonic()
        run()
        faulthandler.cancel_dump_traceback_later()
        took, after = time.monotonic() - start, os.times()
        print(took, after.user - before.user, after.system - before.system, flush=True)
    if FRONT == "refimpl":
        frontend.close()


main()
