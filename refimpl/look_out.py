"""Looking out for an answer before sleeping: where that pays.

To sleep and be woken on another processor costs more than most answers take: a processor that sleeps has to be called
up first. So whoever has just told the other end something looks out for a while, and sleeps only then. Between two
looks it lets others have its processor: whoever is to answer may be waiting for just this one.

Where the other end is slow, or has to share the processors with others, looking out keeps the answer away. So after
vain tries in a row, sleep at once, for a number of waits that doubles each time. An answer that came only after
others had held the processor for long is vain too.

Spec: Workflow (what *notify the other end* wakes).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

#: Longer than an answer takes that comes through another process; shorter than anybody notices.
LOOK_OUT_SECONDS = 0.0002
#: So many vain tries in a row are enough; one that took so many seconds counts as all of them.
MOST_VAIN_TRIES = 2
TOO_LONG_SECONDS = 0.001
#: So many waits sleep at once after that, at first and at most.
FEWEST_SLEEPS, MOST_SLEEPS = 64, 1024

Found = TypeVar("Found")


class LookOut:
    """Looks out before a sleep where that has paid lately. For one thread at a time."""

    __slots__ = ("_sleeps", "_sleeps_left", "_vain_tries")

    def __init__(self) -> None:
        self._vain_tries = 0
        self._sleeps = FEWEST_SLEEPS
        self._sleeps_left = 0

    def find(self, look: Callable[[], Found]) -> Found | None:
        """Return the first true result of ``look()``, tried again and again; None once it is time to sleep."""
        if self._sleeps_left:
            self._sleeps_left -= 1
            return None
        started = monotonic()
        while True:
            found = look()
            passed = monotonic() - started
            if found or passed >= LOOK_OUT_SECONDS:
                self.learn(paid=passed < LOOK_OUT_SECONDS, too_long=passed >= TOO_LONG_SECONDS)
                return found or None
            os.sched_yield()

    def learn(self, *, paid: bool, too_long: bool = False) -> None:
        """Take note of how a try went."""
        if paid:
            self._vain_tries = 0
            self._sleeps = max(FEWEST_SLEEPS, self._sleeps // 2)
            return
        self._vain_tries += 1
        if too_long or self._vain_tries == MOST_VAIN_TRIES:
            self._vain_tries = 0
            self._sleeps_left, self._sleeps = self._sleeps, min(MOST_SLEEPS, self._sleeps * 2)
