"""Bytes a second: no faster than the limit, nothing lost, everybody's turn comes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from refimpl.backend import Limits, Policy
from refimpl.backend.byte_rate import BURST_SECONDS, SHARE_SECONDS, ByteRate
from refimpl.backend.connection import Connection
from refimpl.data_ring.workflow import Consumer, Producer
from refimpl.testing import raw


class Clock:
    """A loop whose time is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []
        monkeypatch.setattr("refimpl.backend.byte_rate.time.monotonic", lambda: self.now)

    def call_later(self, delay_seconds: float, callback: Callable[[], None]) -> None:
        self.due.append((self.now + delay_seconds, callback))

    def run_next(self) -> None:
        self.now, callback = self.due.pop(0)
        callback()


@pytest.mark.security("SEC-B-24")
def test_each_who_waits_has_its_turn_and_the_sum_keeps_to_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    rate = ByteRate(clock, 1000)  # type: ignore[arg-type]
    moved = {"a": 0, "b": 0, "c": 0}
    pieces = []

    def mover(name: str) -> Callable[[], None]:
        def move() -> None:
            while count := rate.ask(move):
                clock.now += 0.001  # What moving takes, in which more may be moved.
                rate.spend(count)
                pieces.append(count)
                moved[name] += count

        return move

    for name in moved:
        mover(name)()
    for _ in range(300):
        clock.run_next()
    total = sum(moved.values())
    assert 0.9 * 1000 * clock.now < total <= 1000 * (clock.now + BURST_SECONDS)
    assert min(moved.values()) > 0.8 * (total - 1000 * BURST_SECONDS) / 3
    assert min(pieces) >= 1000 * SHARE_SECONDS


def limited(machine, rate: int | None):
    machine.serve(policy=Policy(allow_everything=True, limits={1: {"bytes_per_second": rate}} if rate else {}))
    return machine.guest()


@pytest.mark.security("SEC-B-24")
def test_a_limited_guest_gets_and_sends_every_byte_no_faster_than_it_may(machine, server) -> None:
    guest = limited(machine, 200_000)
    started = time.monotonic()
    ring = guest.connected(1, server.getsockname())
    connection, _ = server.accept()
    there, back = bytes(range(250)) * 8, bytes(reversed(range(250))) * 200
    received = b""

    def peer() -> None:
        nonlocal received
        with connection:
            while len(received) < len(there):
                received += connection.recv(65536)
            connection.sendall(back)

    thread = threading.Thread(target=peer)
    thread.start()
    guest.put(ring, there)
    assert guest.take(ring, len(back)) == back
    thread.join()
    assert received == there
    assert time.monotonic() - started >= (len(there) + len(back)) / 200_000 - BURST_SECONDS


@pytest.mark.security("SEC-B-13", "SEC-B-24")
def test_output_past_the_burst_goes_on_with_no_event_from_anybody(machine, server) -> None:
    guest = limited(machine, 100_000)
    ring = guest.connected(1, server.getsockname(), order=4)
    connection, _ = server.accept()
    connection.settimeout(30)
    data = bytes(range(256)) * 120
    guest.put(ring, data)
    with connection, connection.makefile("rb") as stream:
        assert stream.read(len(data)) == data


@pytest.mark.security("SEC-B-24")
@pytest.mark.erratum("E-SENDCLOSE")
def test_a_release_goes_on_as_long_as_the_limit_lets_output_go(machine, server) -> None:
    policy = Policy(allow_everything=True, limits={None: {"bytes_per_second": 40_000, "drain_seconds": 0.1}})
    machine.serve(policy=policy)
    guest = machine.guest()
    ring = guest.connected(1, server.getsockname(), order=4)
    connection, _ = server.accept()
    connection.settimeout(30)
    data = bytes(range(256)) * 100
    with connection, connection.makefile("rb") as stream:
        guest.put(ring, data)
        assert guest.ask(raw.release_request, 1).ret == 0
        assert stream.read() == data


@pytest.mark.security("SEC-B-13")
@pytest.mark.erratum("E-SENDCLOSE")
def test_a_release_under_a_limit_ends_where_nothing_moves(machine, server) -> None:
    policy = Policy(allow_everything=True, limits={None: {"bytes_per_second": 1 << 30, "drain_seconds": 0.2}})
    machine.serve(policy=policy)
    guest = machine.guest()
    ring = guest.connected(1, server.getsockname(), order=9)
    connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        guest.fill_out(ring)
        assert guest.ask(raw.release_request, 1).ret == 0


def test_the_limit_can_come_and_go_while_data_flows(machine, server) -> None:
    guest = limited(machine, None)
    ring = guest.connected(1, server.getsockname())
    connection, _ = server.accept()
    data = bytes(range(256)) * 500
    with connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        slow = Policy(allow_everything=True, limits={None: {"bytes_per_second": 1}})
        machine.backend.call(lambda: machine.backend.set_policy(slow))
        guest.turn()
        machine.backend.call(lambda: machine.backend.set_policy(Policy(allow_everything=True)))
        assert guest.take(ring, len(data)) == data
        sender.join()


def test_where_there_is_no_limit_nothing_is_in_the_way(machine, server, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Connection] = []
    original = Connection.start
    monkeypatch.setattr(Connection, "start", lambda self: (made.append(self), original(self)))
    machine.serve(limits=Limits())
    machine.guest().connected(1, server.getsockname())
    accepted: socket.socket = server.accept()[0]
    accepted.close()
    assert (type(made[0]._in_ring), type(made[0]._out_ring)) == (Producer, Consumer)
