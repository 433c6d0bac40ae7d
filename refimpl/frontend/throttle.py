"""A backend that keeps firing an event channel with nothing new behind it costs us less and less.

Spec: Workflow (what *notify the other end* is for).
"""

from __future__ import annotations

import time

#: So many events in a row with nothing new behind them are free.
FREE_USELESS_EVENTS = 8
FIRST_HOLD_SECONDS = 0.004
LONGEST_HOLD_SECONDS = 1.0


class Throttle:
    """How long a port stays masked after events with nothing behind them."""

    __slots__ = ("_activity", "_hold", "_useless", "rearm_at")

    def __init__(self) -> None:
        self._activity: object = None
        self._useless = 0
        self._hold = 0.0
        #: When the port may be rearmed, while it is held; otherwise 0.
        self.rearm_at = 0.0

    def take_event(self, activity: object) -> None:
        """Account for one event, after a look that found not what was waited for."""
        if activity != self._activity:
            self._activity, self._useless, self._hold = activity, 0, 0.0
            return
        self._useless += 1
        if self._useless > FREE_USELESS_EVENTS:  # SEC-F-11
            self._hold = min(LONGEST_HOLD_SECONDS, max(FIRST_HOLD_SECONDS, self._hold * 2))
            self.rearm_at = time.monotonic() + self._hold
