"""What the backend does, one turn at a time: descriptors, timers, and work that comes from other threads.

A turn is all that is carried out at once: only one thread has it. Mostly that is the loop's own; a thread that was
woken for some work takes a turn itself where it can (:meth:`EventLoop.try_turn`), which spares a second wake-up.

Descriptors are watched edge-triggered, so that a socket is registered once and costs no system call while its ring is
full or its peer slow; whoever gets an edge works until the socket would block. A piece of work that stops short, to be
fair to the others, asks for :meth:`EventLoop.call_soon`.
"""

from __future__ import annotations

import collections
import functools
import heapq
import itertools
import math
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

Callback = Callable[[], None]

#: Edge-triggered: readable, writable, the peer's end of stream, errors.
SOCKET_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_MOST_EVENTS = 256


class Timer:
    """A callback due at a time; :meth:`cancel` forgets it."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callback) -> None:
        self.due = due
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Never call it; a second call does nothing."""
        self.callback = None


class EventLoop:
    """An epoll loop with timers.

    Other threads may call :meth:`call_from_thread`, :meth:`try_turn` and :meth:`stop`; the rest is for whoever has the
    turn.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._events: dict[int, int] = {}
        # Descriptors forgotten since the loop went to look for events: what it found may be of an earlier bearer.
        self._forgotten: set[int] = set()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: collections.deque[Callback] = collections.deque()
        self._handed_over: collections.deque[Callback] = collections.deque()
        self._doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_rung = False
        self._turn = threading.Lock()
        # The loop waits for its turn, and has it next.
        self._wants_turn = False
        # When the loop wakes by itself.
        self._wakes_at = 0.0
        self._stopping = False
        self._is_closed = False
        # Reentrant: a signal handler may ring while this thread does.
        self._doorbell_lock = threading.RLock()
        self.watch(self._doorbell, select.EPOLLIN, self._on_doorbell)

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(mask)`` when one of the events happens on the descriptor."""
        self._epoll.register(descriptor, events)
        self._events[descriptor] = events
        self._callbacks[descriptor] = callback

    def unwatch(self, descriptor: int) -> None:
        """Stop watching, before the descriptor is closed; one not watched is ignored."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            self._forgotten.add(descriptor)

    def call_soon(self, callback: Callback) -> None:
        """Call once, in the next turn: after what else is ready has had its own."""
        self._soon.append(callback)

    def call_later(self, delay_seconds: float, callback: Callback) -> Timer:
        """Call once after a delay."""
        timer = Timer(time.monotonic() + delay_seconds, callback)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        return timer

    def call_from_thread(self, callback: Callback) -> None:
        """Call once from the loop's own thread; safe anywhere, also from a signal handler."""
        self._handed_over.append(callback)
        self.ring_doorbell()

    def ring_doorbell(self) -> None:
        """Wake the loop; one that is closed stays so."""
        if self._is_rung:
            return  # It has still to answer, and looks for everything after that.
        with self._doorbell_lock:
            if not self._is_closed:
                self._is_rung = True
                os.eventfd_write(self._doorbell, 1)

    def try_turn(self, work: Callback) -> bool:
        """Work a turn in a thread that is not the loop's: ``work()``, then what waited for this turn.

        Returns False, with nothing done, while the loop has the turn or waits for it, or has work handed over before
        this one. What ``work`` raises, raises :meth:`run`.
        """
        if self._wants_turn or self._handed_over or not self._turn.acquire(blocking=False):
            return False
        try:
            work()
            self._run_soon()
            must_ring = bool(self._soon) or self._next_due() < self._wakes_at
        except Exception as error:
            self.call_from_thread(functools.partial(_throw, error))
            return True
        finally:
            self._turn.release()
        if must_ring:
            self.ring_doorbell()
        return True

    def stop(self) -> None:
        """End :meth:`run` after the turn in progress; safe anywhere."""
        self._stopping = True
        self.ring_doorbell()

    def run(self) -> None:
        """Work until :meth:`stop`."""
        while not self._stopping:
            self.run_once()

    def run_once(self, timeout: float | None = None) -> None:
        """Work one turn: wait for events (at most ``timeout`` seconds), then carry out what is due."""
        events = self._epoll.poll(self._wait_seconds(timeout), _MOST_EVENTS)
        self._take_turn()
        try:
            self._run_callbacks(events)
            self._run_soon()
            if self._timers:
                self._run_timers()
        finally:
            self._turn.release()

    def _take_turn(self) -> None:
        self._wants_turn = True
        self._turn.acquire()
        self._wants_turn = False

    def _run_callbacks(self, events: Sequence[tuple[int, int]]) -> None:
        callbacks, forgotten = self._callbacks, self._forgotten
        for descriptor, mask in events:
            callback = callbacks.get(descriptor)
            if callback is None:
                continue  # Another thread's turn, or an earlier callback of this one, has closed it.
            if descriptor in forgotten:
                self._epoll.modify(descriptor, self._events[descriptor])  # Tells its own events anew.
            else:
                callback(mask)

    def _run_soon(self) -> None:
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    def _wait_seconds(self, timeout: float | None) -> float | None:
        self._take_turn()
        self._forgotten.clear()
        self._wakes_at = due = 0.0 if self._soon else self._next_due()
        self._turn.release()
        if due == math.inf:
            return timeout
        until_due = max(0.0, due - time.monotonic())
        return until_due if timeout is None else min(until_due, timeout)

    def _next_due(self) -> float:
        """Return when the first timer is due."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        return timers[0][0] if timers else math.inf

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def _on_doorbell(self, _mask: int) -> None:
        os.eventfd_read(self._doorbell)
        self._is_rung = False  # Before the work is taken: what is added later rings again.
        for _ in range(len(self._handed_over)):
            self._handed_over.popleft()()

    def close(self) -> None:
        """Close the loop's own descriptors; work handed over later is dropped."""
        with self._doorbell_lock:
            self._is_closed = True
            self._epoll.close()
            os.close(self._doorbell)


def _throw(error: Exception) -> NoReturn:
    raise error
