"""Whether to look out for an event before sleeping: where that pays.

To sleep and be woken on another processor costs more than most answers take: a processor that sleeps has to be called
up first. So whoever waits looks out for a while, and sleeps only then. Where the other ends need this processor to get
on, looking out keeps the answer away: after two vain tries in a row it is left alone for a while.

Spec: Workflow (what *notify the other end* wakes).
"""

from __future__ import annotations

#: Longer than an answer takes that comes through another process; shorter than anybody notices.
LOOK_OUT_SECONDS = 0.0002
#: After so many vain tries in a row...
MOST_VAIN_TRIES = 2
#: ... so many waits sleep at once.
SLEEPS_BEFORE_NEXT_TRY = 64


class LookOut:
    """Decides before each sleep whether to look out first; told whether that has paid."""

    __slots__ = ("_sleeps_left", "_vain_tries")

    def __init__(self) -> None:
        self._vain_tries = 0
        self._sleeps_left = 0

    def pays(self) -> bool:
        """Say whether to look out before this sleep."""
        if self._sleeps_left:
            self._sleeps_left -= 1
            return False
        return True

    def tell(self, paid: bool) -> None:
        """Learn whether there was an event before it was time to sleep."""
        self._vain_tries = 0 if paid else self._vain_tries + 1
        if self._vain_tries >= MOST_VAIN_TRIES:
            self._sleeps_left = SLEEPS_BEFORE_NEXT_TRY
