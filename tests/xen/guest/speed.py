"""In a guest: measure one frontend. Each line of input names a case; the answer is how long it took and its own time.

``python3 speed.py refimpl ORDER`` or ``python3 speed.py linux``. An answer is "seconds user system", of this process.
"""

import faulthandler
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
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


class Watch:
    """How long a block took, and how much processor time this process had in it."""

    def __enter__(self) -> "Watch":
        self._times, self._start = os.times(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        seconds, times = time.monotonic() - self._start, os.times()
        self.told = f"{seconds} {times.user - self._times.user} {times.system - self._times.system}"


def out(connect: Callable[..., Any]) -> Watch:
    """Send 16 MiB and hear that they arrived."""
    piece = bytes(PIECE)
    with closing(connect(SINK)) as connection, Watch() as watch:
        connection.sendall(BULK.to_bytes(8, "big"))
        for _ in range(BULK // PIECE):
            connection.sendall(piece)
        assert receive(connection, 1)
    return watch


def take(connect: Callable[..., Any]) -> Watch:
    """Receive 16 MiB."""
    buffer, left = bytearray(PIECE), BULK
    with closing(connect(SOURCE)) as connection, Watch() as watch:
        connection.sendall(BULK.to_bytes(8, "big"))
        while left:
            left -= connection.recv_into(buffer)
    return watch


def ping(connect: Callable[..., Any]) -> Watch:
    """Send a byte and receive it, again and again."""
    with closing(connect(MIRROR)) as connection, Watch() as watch:
        for _ in range(ROUND_TRIPS):
            connection.sendall(b"!")
            assert connection.recv(1)
    return watch


def open_and_close(connect: Callable[..., Any]) -> Watch:
    """Connect and close, again and again."""
    with Watch() as watch:
        for _ in range(CONNECTIONS):
            connect(MIRROR).close()
    return watch


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
        print(CASES[line.strip()](connect).told, flush=True)
        faulthandler.cancel_dump_traceback_later()
    if FRONT == "refimpl":
        frontend.close()


main()
