"""The loop's time, shared among guests: whoever has used much of it waits while another guest is at work.

All that a guest can cause goes through its :class:`Share`. As long as nobody else wants the loop, a share is as good as
not there; beside others a guest gets two fifths of the loop's time at most, in pieces (SEC-B-14).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from refimpl.backend.loop import EventLoop, Timer

Work = Callable[[], object]

#: So much work in one piece; what is left comes after what else is ready.
PIECE_SECONDS = 0.0002
#: So much more work than rest is nothing to wait for: a timer is no finer.
_ALLOWANCE_SECONDS = 0.001
#: How long it waits for each second of that.
_REST = 1.5
#: A guest that did something so lately is at work.
_AT_WORK_SECONDS = 0.005
#: Debts are not held against anybody for ever.
_LONGEST_WAIT_SECONDS = 0.05


class Turns:
    """Who worked last: what the shares of one backend have in common."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self._latest: Share | None = None
        self._before: Share | None = None

    def note(self, share: Share) -> None:
        """Take note that a guest did something."""
        if share is not self._latest:
            self._latest, self._before = share, self._latest

    def is_another_at_work(self, share: Share, now: float) -> bool:
        """Say whether another guest than this one was at work lately."""
        other = self._before if share is self._latest else self._latest
        return other is not None and now - other.worked_at < _AT_WORK_SECONDS


class Share:
    """One guest's share of the loop's time."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._loop = turns.loop
        #: When it last did something.
        self.worked_at = 0.0
        #: Work beyond rest, in seconds.
        self._used = 0.0
        self._waiting: dict[Work, None] = {}
        self._timer: Timer | None = None

    def work(self, work: Work) -> None:
        """Do it now, or, once, when this guest's turn has come."""
        if self._timer is not None:
            self._waiting[work] = None  # SEC-B-14
        else:
            self._do(work)

    def work_soon(self, work: Work) -> None:
        """Do it in the next round of the loop, or when this guest's turn has come."""
        self._loop.call_soon(functools.partial(self.work, work))

    def _do(self, work: Work) -> None:
        began = time.monotonic()
        work()
        ended = time.monotonic()
        self._used = max(0.0, self._used - (began - self.worked_at)) + ended - began
        self.worked_at = ended
        self._turns.note(self)
        if self._used > _ALLOWANCE_SECONDS:
            if self._turns.is_another_at_work(self, ended):
                self._timer = self._loop.call_later(
                    min(_REST * self._used, _LONGEST_WAIT_SECONDS), self._go_on
                )  # SEC-B-14
            self._used = 0.0

    def _go_on(self) -> None:
        self._timer = None
        for _ in range(len(self._waiting)):
            if self._timer is not None:
                return
            work = next(iter(self._waiting))
            del self._waiting[work]
            self._do(work)

    def close(self) -> None:
        """Forget what waits: the guest is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
