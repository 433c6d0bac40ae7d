"""When looking out before a sleep is tried, how it ends, and when it is left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from refimpl import look_out
from refimpl.look_out import (
    FEWEST_SLEEPS,
    LOOK_OUT_SECONDS,
    MOST_SLEEPS,
    MOST_VAIN_TRIES,
    TOO_LONG_SECONDS,
    LookOut,
)


class Clock:
    """The time, and what others do with the processor while it is let go."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.yields = 0
        self.taken_by_others = 0.0

    def sched_yield(self) -> None:
        self.yields += 1
        self.now += self.taken_by_others


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(look_out, "monotonic", lambda: clock.now)
    monkeypatch.setattr(os, "sched_yield", clock.sched_yield)
    return clock


def looks(clock: Clock, seconds: float, *found: object) -> Iterator[object]:
    """Give what each look finds, which takes so many seconds; then nothing for ever."""
    for each in found:
        clock.now += seconds
        yield each
    while True:
        clock.now += seconds
        yield None


def sleeps_after_vain_tries(looking: LookOut) -> int:
    """Look in vain until it is left alone; return for how many waits."""
    for _ in range(MOST_VAIN_TRIES):
        looking.learn(paid=False)
    return sleeps(looking)


def sleeps(looking: LookOut) -> int:
    """Return how many waits sleep at once."""
    found: list[bool] = []
    count = 0
    while looking.find(lambda: found.append(True) or True) is None:
        assert not found
        count += 1
    return count


def test_it_looks_until_it_finds_and_lets_others_have_the_processor_between_two_looks(clock: Clock) -> None:
    clock.taken_by_others = LOOK_OUT_SECONDS / 8
    found = looks(clock, LOOK_OUT_SECONDS / 8, None, None, "it")
    assert LookOut().find(lambda: next(found)) == "it"
    assert clock.yields == 2


def test_it_ends_when_it_is_time_to_sleep(clock: Clock) -> None:
    found = looks(clock, LOOK_OUT_SECONDS / 4)
    assert LookOut().find(lambda: next(found)) is None
    assert clock.now == pytest.approx(1000 + LOOK_OUT_SECONDS)


def test_it_is_tried_while_it_pays_and_one_vain_try_changes_nothing() -> None:
    looking = LookOut()
    for _ in range(10):
        assert looking.find(lambda: True)
        looking.learn(paid=False)


def test_after_vain_tries_it_is_left_alone_for_longer_each_time() -> None:
    looking = LookOut()
    for expected in (64, 128, 256, 512, MOST_SLEEPS, MOST_SLEEPS):
        for _ in range(MOST_VAIN_TRIES):
            looking.learn(paid=False)
        for _ in range(expected):
            assert looking.find(lambda: True) is None


def test_what_pays_halves_that_again() -> None:
    looking = LookOut()
    assert sleeps_after_vain_tries(looking) == FEWEST_SLEEPS  # and the try after that has paid
    assert sleeps_after_vain_tries(looking) == FEWEST_SLEEPS


def test_an_answer_that_came_while_others_had_the_processor_for_long_is_vain_and_enough(clock: Clock) -> None:
    clock.taken_by_others = TOO_LONG_SECONDS
    looking = LookOut()
    found = looks(clock, LOOK_OUT_SECONDS / 8, None, "late")
    assert looking.find(lambda: next(found)) == "late"
    assert sleeps(looking) == FEWEST_SLEEPS
