"""A limit on the bytes a second of one guest, all its sockets and both directions together.

Where there is a limit, a connection's two ends are wrapped: they show no more of the ring than may be moved now, and
who has to wait is resumed in turn. Where there is none, nothing of this is in the way of the data.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from refimpl.backend.loop import EventLoop, Timer
from refimpl.data_ring.workflow import Consumer, Producer

#: What may be moved at once after a silence, and what a wait is for, in seconds' worth of bytes.
BURST_SECONDS = 0.1
SHARE_SECONDS = 0.02

Views = tuple[memoryview, ...]


class ByteRate:
    """So many bytes a second, shared by those who ask in the order they asked."""

    def __init__(self, loop: EventLoop, bytes_per_second: int) -> None:
        self.bytes_per_second = bytes_per_second
        self._loop = loop
        self._most = max(1.0, bytes_per_second * BURST_SECONDS)
        self._share = max(1.0, bytes_per_second * SHARE_SECONDS)
        self._left = self._most
        self._counted_at = time.monotonic()
        self._waiting: dict[Callable[[], None], None] = {}
        self._whose_turn: Callable[[], None] | None = None
        self._timer: Timer | None = None

    def ask(self, resume: Callable[[], None]) -> int:
        """Return how many bytes may be moved now: 0, or a share at least, lest a piece be a few bytes.

        Where none may, ``resume()`` is called once some may.
        """
        self._count()
        if self._left >= self._share and (not self._waiting or resume is self._whose_turn):
            return int(self._left)
        self._waiting[resume] = None
        self._set_timer()
        return 0

    def spend(self, count: int) -> None:
        """Take note of bytes moved."""
        self._left -= count

    def _count(self) -> None:
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._counted_at) * self.bytes_per_second)
        self._counted_at = now

    def _set_timer(self) -> None:
        if self._timer is None:
            delay = max(0.001, (self._share - self._left) / self.bytes_per_second)
            self._timer = self._loop.call_later(delay, self._give_turns)

    def _give_turns(self) -> None:
        """Resume who waits, the longest wait first, as far as the bytes go: who wants more waits behind the others."""
        self._timer = None
        self._count()
        for _ in range(len(self._waiting)):
            if self._left < self._share:
                break
            self._whose_turn = next(iter(self._waiting))
            del self._waiting[self._whose_turn]
            self._whose_turn()
        self._whose_turn = None
        if self._waiting:
            self._set_timer()


class PacedProducer:
    """The producer of ``in``, giving no more space than the rate allows bytes."""

    def __init__(self, end: Producer, rate: ByteRate, resume: Callable[[], None]) -> None:
        self.end = end
        self._rate = rate
        self._resume = resume
        self.release = end.release

    def writable(self) -> Views:
        """As :meth:`Producer.writable`, within the rate."""
        return _within(self.end.writable(), self._rate, self._resume)

    def produced(self, count: int) -> bool:
        """As :meth:`Producer.produced`."""
        self._rate.spend(count)
        return self.end.produced(count)

    @property
    def unconsumed(self) -> int:
        """As :attr:`Producer.unconsumed`."""
        return self.end.unconsumed

    @property
    def is_drained(self) -> bool:
        """As :attr:`Producer.is_drained`."""
        return self.end.is_drained


class PacedConsumer:
    """The consumer of ``out``, giving no more of it than the rate allows bytes."""

    def __init__(self, end: Consumer, rate: ByteRate, resume: Callable[[], None]) -> None:
        self.end = end
        self._rate = rate
        self._resume = resume
        self.release = end.release
        self.publish = end.publish

    def readable(self) -> Views:
        """As :meth:`Consumer.readable`, within the rate."""
        return _within(self.end.readable(), self._rate, self._resume)

    def consumed(self, count: int) -> bool:
        """As :meth:`Consumer.consumed`."""
        self._rate.spend(count)
        return self.end.consumed(count)

    @property
    def available(self) -> int:
        """As :attr:`Consumer.available`."""
        return self.end.available


def _within(views: Views, rate: ByteRate, resume: Callable[[], None]) -> Views:
    if not views:
        return views
    left = rate.ask(resume)
    if not left:
        return ()
    if left <= len(views[0]):
        return (views[0][:left],)
    return views if len(views) == 1 else (views[0], views[1][: left - len(views[0])])
