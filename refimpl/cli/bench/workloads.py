"""What is measured: the cases of a round, and each of the four works over any socket there is.

A stream is measured by the receiver's word: the peer answers with one byte when it has all of it. Whoever calls has
made the socket; nothing here knows whether a frontend, the system or a relay is beneath.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

#: What a stream's peer is told before each run: what to do, the size of a message, how many of them; to echo: the
#: number of the processor to stay on, plus one, or 0 for any.
HEADER = struct.Struct("!cIQ")
SINK, SOURCE, ECHO = b"<", b">", b"="

MESSAGE_SIZES = (64, 1024, 16 * 1024, 64 * 1024, 1024 * 1024)
RING_ORDERS = (1, 4, 6, 9)
SOCKET_COUNTS = (1, 64, 1000)
#: The order of the rings where many sockets are open.
SOCKETS_RING_ORDER = 4
#: The order of the marks.
BEST_RING_ORDER = 9
WORKS = ("stream", "rtt", "connect", "sockets")

UNITS = {"stream": "MB/s", "rtt": "us", "connect": "1/s", "sockets": "us"}

Connect = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure; ``direction`` is the guest's: ``"out"`` is what it sends."""

    work: str
    direction: str | None = None
    message_bytes: int | None = None
    open_sockets: int | None = None
    #: Where the two ends of a round trip are kept: ``"apart"``, each on a processor of its own, or ``"together"``; None
    #: leaves it to the system. What is between them is free in any case.
    placement: str | None = None


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each measurement goes on: seconds of a stream, round trips, connections, messages over many sockets."""

    stream_seconds: float
    round_trips: int
    connections: int
    messages: int


FULL = Effort(stream_seconds=0.15, round_trips=3000, connections=300, messages=6000)
QUICK = Effort(stream_seconds=0.08, round_trips=1500, connections=150, messages=3000)


def cases(*, quick: bool, only: Sequence[str] = WORKS) -> list[Case]:
    """Return the cases of a round, in their order."""
    sizes = (64, 64 * 1024, 1024 * 1024) if quick else MESSAGE_SIZES
    found = [Case("stream", direction, size) for size in sizes for direction in ("out", "in")]
    placements = (None, "apart", "together") if len(os.sched_getaffinity(0)) > 1 else (None,)
    found += [Case("rtt", message_bytes=1, placement=placement) for placement in placements]
    found.append(Case("connect"))
    found += [Case("sockets", message_bytes=64, open_sockets=count) for count in SOCKET_COUNTS]
    return [case for case in found if case.work in only]


def measure(case: Case, connect: Connect, effort: Effort) -> tuple[float, float | None]:
    """Carry a case out; return its figure, in the work's unit, and the 99th percentile where there is one.

    ``connect()`` returns a socket connected to the case's peer.
    """
    if case.work == "connect":
        return _connect_rate(connect, effort.connections), None
    if case.work == "sockets":
        return _cost_of_a_message(connect, case.open_sockets or 1, case.message_bytes or 1, effort.messages), None
    with connect() as connection:
        if case.work == "rtt":
            with _kept_on(case.placement) as peers_processor:
                return _round_trip(connection, effort.round_trips, peers_processor)
        run = _stream_out if case.direction == "out" else _stream_in
        return _rate(lambda count: run(connection, case.message_bytes or 1, count), case, effort.stream_seconds), None


def _rate(run: Callable[[int], float], case: Case, seconds: float) -> float:
    """Let ``run(count)``, which returns the seconds it took, go on for about so long; return megabytes a second."""
    size = case.message_bytes or 1
    count = max(4, 256 * 1024 // size)
    took = run(count)
    while took < seconds / 2:
        count = int(count * min(16.0, max(1.5, seconds / took)))
        took = run(count)
    return count * size / took / 1e6


def _stream_out(connection: Any, size: int, count: int) -> float:
    message = bytes(size)
    send = connection.sendall
    started = time.perf_counter()
    send(HEADER.pack(SINK, size, count))
    for _ in range(count):
        send(message)
    connection.recv(1)
    return time.perf_counter() - started


def _stream_in(connection: Any, size: int, count: int) -> float:
    buffer = memoryview(bytearray(size))
    left, receive = size * count, connection.recv_into
    started = time.perf_counter()
    connection.sendall(HEADER.pack(SOURCE, size, count))
    while left > 0:
        received = receive(buffer)
        if not received:
            raise ConnectionError("the source ended early")
        left -= received
    return time.perf_counter() - started


@contextlib.contextmanager
def _kept_on(placement: str | None) -> Iterator[int]:
    """Keep this thread on one processor if its placement matters; give what the peer is told of its own."""
    allowed = os.sched_getaffinity(0)
    if placement is None:
        yield 0
        return
    own, peers = min(allowed), max(allowed) if placement == "apart" else min(allowed)
    os.sched_setaffinity(0, {own})
    try:
        yield peers + 1
    finally:
        os.sched_setaffinity(0, allowed)


def _round_trip(connection: Any, count: int, peers_processor: int) -> tuple[float, float]:
    connection.sendall(HEADER.pack(ECHO, 1, peers_processor))
    send, receive, now = connection.sendall, connection.recv, time.perf_counter
    for _ in range(100):  # The first ones find everything cold.
        send(b"x")
        receive(1)
    times = []
    for _ in range(count):
        started = now()
        send(b"x")
        receive(1)
        times.append(now() - started)
    times.sort()
    return statistics.median(times) * 1e6, times[int(len(times) * 0.99)] * 1e6


def _connect_rate(connect: Connect, count: int) -> float:
    connect().close()
    started = time.perf_counter()
    for _ in range(count):
        connect().close()
    return count / (time.perf_counter() - started)


def _cost_of_a_message(connect: Connect, socket_count: int, size: int, messages: int) -> float:
    """Send one message on each socket, then take each echo, over and over; return the microseconds a message."""
    message, connections = bytes(size), []
    try:
        for _ in range(socket_count):
            connections.append(connect())
        _echo_on_all(connections, message)
        turns = max(2, messages // socket_count)
        started = time.perf_counter()
        for _ in range(turns):
            _echo_on_all(connections, message)
        return (time.perf_counter() - started) / (turns * socket_count) * 1e6
    finally:
        for connection in connections:
            connection.close()


def _echo_on_all(connections: Sequence[Any], message: bytes) -> None:
    for connection in connections:
        connection.sendall(message)
    for connection in connections:
        left = len(message)
        while left:
            received = len(connection.recv(left))
            if not received:
                raise ConnectionError("the echo ended early")
            left -= received
