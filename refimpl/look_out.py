"""Whether to look out for an event before sleeping: where that pays.

To sleep and be woken on another processor costs more than most answers take: a processor that sleeps has to be called
up first. So whoever waits looks out for a while, and sleeps only then. Where the other ends need this processor to get
on, looking out keeps the answer away: after vain tries in a row, sleep at once, for a number of waits that doubles each
time. (To yield the processor between two looks instead gives it to whoever else wants it, for milliseconds.)

Spec: Workflow (what *notify the other end* wakes).
"""

from __future__ import annotations

#: Longer than an answer takes that comes through another process; shorter than anybody notices.
LOOK_OUT_SECONDS = 0.0002
#: So many vain tries in a row are enough.
MOST_VAIN_TRIES = 2
#: So many waits sleep at once after that, at first and at most.
FEWEST_SLEEPS, MOST_SLEEPS = 64, 1024


class LookOut:
    """Decides before each sleep whether to look out first; told whether that has paid."""

    __slots__ = ("_sleeps", "_sleeps_left", "_vain_tries")

    def __init__(self) -> None:
        self._vain_tries = 0
        self._sleeps = FEWEST_SLEEPS
        self._sleeps_left = 0

    def pays(self) -> bool:
        """Say whether to look out before this sleep."""
        if self._sleeps_left:
            self._sleeps_left -= 1
            return False
        return True

    def tell(self, paid: bool) -> None:
        """Learn whether there was an event before it was time to sleep."""
        if paid:
            self._vain_tries, self._sleeps = 0, FEWEST_SLEEPS
            return
        self._vain_tries += 1
        if self._vain_tries == MOST_VAIN_TRIES:
            self._vain_tries = 0
            self._sleeps_left, self._sleeps = self._sleeps, min(MOST_SLEEPS, self._sleeps * 2)
