"""How much longer an honest guest's round trips take while another process does its worst; and guests that do.

Times are compared by turns: the other stopped, with processes that do nothing but run in its place, which take as much
of the machine; and the other at work.

Spec: none; security rule SEC-B-14.
"""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from refimpl.frontend import Frontend
from refimpl.shm import ShmPlatform
from refimpl.testing import raw
from refimpl.testing.hostile_frontend import HostileFrontend
from refimpl.testing.processes import End, Line

_ROUNDS_A_TURN = 300
#: Requests in one go: nearly a ring's worth.
_AT_ONCE = 30

Address = tuple[str, int]


class Delay(NamedTuple):
    """The means' ratio, not the medians', which a storm that hits one in three leaves alone; and both longest.

    The slowest quarter of the turns of either kind counts for nothing: the machine was about something else.
    """

    ratio: float
    longest_ms: tuple[float, float]


def time_by_turns(connection: Any, other: End, stand_ins: Sequence[End], turns: int | None = None) -> Delay:
    """Time round trips on a connection to an echo server, by turns: so many, or until the other has ended."""
    calm: list[list[float]] = []
    storm: list[list[float]] = []
    while other.is_alive and not other.has_reported and turns != 0:
        turns = None if turns is None else turns - 1
        other.signal(signal.SIGSTOP)
        for each in stand_ins:
            each.signal(signal.SIGCONT)
        calm.append(_round_trips(connection))
        for each in stand_ins:
            each.signal(signal.SIGSTOP)
        other.signal(signal.SIGCONT)
        storm.append(_round_trips(connection))
    longest = max(map(max, calm)) * 1000, max(map(max, storm)) * 1000
    return Delay(_mean_of_most(storm) / _mean_of_most(calm), longest)


def _mean_of_most(turns: list[list[float]]) -> float:
    means = sorted(map(statistics.mean, turns))
    return statistics.mean(means[: -(-len(means) * 3 // 4)])


def _round_trips(connection: Any) -> list[float]:
    times = []
    for turn in range(_ROUNDS_A_TURN):
        message = b"%06d" % turn * 100
        began = time.perf_counter()
        connection.sendall(message)
        answer = b""
        while len(answer) < len(message):
            answer += connection.recv(4096)
        times.append(time.perf_counter() - began)
        if answer != message:
            raise AssertionError("the honest guest's bytes were changed")
    return times


def spinning(_line: Line) -> None:
    """Take all of a processor that one can have."""
    while True:
        pass


def storming_guest(line: Line, run: str, address: Address, storm: str) -> None:
    """Report the domid, wait, make one of :data:`STORMS` until killed; report when it has begun."""
    with ShmPlatform.join(run, arena_pages=4096) as platform:
        line(platform.domid)
        line.wait()
        STORMS[storm](line, platform, address)


class _Asking(HostileFrontend):
    """A guest that asks for many things at once, and for more when it has all the answers."""

    def ask(self, *slots: bytes) -> None:
        self.push(*slots)
        self.await_responses(len(slots))

    def open_sockets(self) -> None:
        self.ask(*(raw.socket_request(number, number + 1) for number in range(_AT_ONCE)))


def _connected(platform: ShmPlatform) -> _Asking:
    end = _Asking(platform)
    end.connect()
    return end


def _scattered(line: Line, platform: ShmPlatform, address: Address) -> None:
    """Rings of 512 pages that lie in the wrong order, mapped for nothing: their event channel is none."""
    end = _connected(platform)
    ring = end.make_data_ring(9, refs=lambda refs, _own: refs[::-1])
    end.open_sockets()
    there, no_port = raw.address(*address), 4000
    line("begun")
    while True:
        end.ask(*(raw.connect_request(n, n + 1, there, ring.ref, no_port) for n in range(_AT_ONCE)))


def _unknown(line: Line, platform: ShmPlatform, _address: Address) -> None:
    """Releases of a socket that is none."""
    end = _connected(platform)
    line("begun")
    while True:
        end.ask(*(raw.release_request(number, 99) for number in range(_AT_ONCE)))


def _sockets(line: Line, platform: ShmPlatform, _address: Address) -> None:
    """Sockets, and their release."""
    end = _connected(platform)
    line("begun")
    while True:
        end.open_sockets()
        end.ask(*(raw.release_request(number, number + 1) for number in range(_AT_ONCE)))


def _bulk(line: Line, platform: ShmPlatform, address: Address) -> None:
    """As many bytes as go, there and back, on sixteen sockets."""

    def receive(connection: Any) -> None:
        with suppress(OSError):
            while connection.recv(1 << 20):
                pass

    with Frontend.open(platform, ring_order=4) as frontend:
        connections = [frontend.create_connection(address) for _ in range(16)]
        for each in connections:
            threading.Thread(target=receive, args=(each,), daemon=True).start()
        line("begun")
        while True:
            for each in connections:
                each.send(b"x" * 20_000)


def _events(line: Line, platform: ShmPlatform, address: Address) -> None:
    """Events on the commands ring's port and a data ring's, with nothing behind them."""
    end = _connected(platform)
    ring = end.make_data_ring(1)
    end.open_sockets()
    end.ask(raw.connect_request(1, 1, raw.address(*address), ring.ref, ring.port))
    line("begun")
    while True:
        end.notify()
        end.notify(ring.port)


#: What a guest can do all the time, by name.
STORMS: dict[str, Callable[[Line, ShmPlatform, Address], None]] = {
    "scattered": _scattered,
    "unknown": _unknown,
    "sockets": _sockets,
    "bulk": _bulk,
    "events": _events,
}
