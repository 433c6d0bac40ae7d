"""Shares of the loop's time: alone a guest has all of it, beside another half at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from refimpl.backend import shares
from refimpl.backend.loop import EventLoop
from refimpl.backend.shares import Share, Turns


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(shares, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


class Guest:
    """A guest whose work takes so many seconds, and how often it was done."""

    def __init__(self, turns: Turns, clock: Clock) -> None:
        self.share = Share(turns)
        self._clock = clock
        self.done: list[str] = []

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def work() -> None:
            self.done.append(name)
            self._clock.now += seconds

        return work


@pytest.fixture
def guests(loop: EventLoop, clock: Clock) -> tuple[Guest, Guest]:
    turns = Turns(loop)
    return Guest(turns, clock), Guest(turns, clock)


def test_alone_a_guest_has_all_of_the_time(guests: tuple[Guest, Guest]) -> None:
    guest, _ = guests
    for _ in range(50):
        guest.share.work(guest.work("x", 0.1))
    assert len(guest.done) == 50


@pytest.mark.security("SEC-B-14")
def test_beside_another_at_work_it_waits_as_long_as_it_worked_and_then_all_is_done_once(
    loop: EventLoop, guests: tuple[Guest, Guest]
) -> None:
    greedy, modest = guests
    modest.share.work(modest.work("m", 0.0))
    greedy.share.work(greedy.work("long", 0.003))
    again = greedy.work("again", 0.0)
    for _ in range(3):
        greedy.share.work(again)
    greedy.share.work(greedy.work("other", 0.0))
    assert greedy.done == ["long"]
    modest.share.work(modest.work("m", 0.0))
    assert modest.done == ["m", "m"]
    while len(greedy.done) < 3:
        loop.run_once(1)
    assert greedy.done == ["long", "again", "other"]
    greedy.share.work(greedy.work("free again", 0.0))
    assert greedy.done[-1] == "free again"


@pytest.mark.security("SEC-B-14")
def test_who_did_nothing_lately_is_not_waited_for(guests: tuple[Guest, Guest], clock: Clock) -> None:
    greedy, idle = guests
    idle.share.work(idle.work("i", 0.0))
    clock.now += 1.0
    for _ in range(5):
        greedy.share.work(greedy.work("x", 0.003))
    assert len(greedy.done) == 5


def test_a_debt_goes_with_time(guests: tuple[Guest, Guest], clock: Clock) -> None:
    greedy, modest = guests
    for _ in range(20):
        modest.share.work(modest.work("m", 0.0))
        greedy.share.work(greedy.work("x", 0.0008))
        clock.now += 0.0008
    assert len(greedy.done) == 20


def test_nothing_is_done_of_a_guest_that_is_gone(loop: EventLoop, guests: tuple[Guest, Guest]) -> None:
    greedy, modest = guests
    modest.share.work(modest.work("m", 0.0))
    greedy.share.work(greedy.work("long", 0.003))
    greedy.share.work(greedy.work("late", 0.0))
    greedy.share.close()
    ended = []
    loop.call_later(0.01, lambda: ended.append(True))
    while not ended:
        loop.run_once(1)
    assert greedy.done == ["long"]
