"""The backend's one thread: descriptors, timers, and work handed over from other threads.

Descriptors are watched edge-triggered, so that a socket is registered once and costs no system call while its ring is
full or its peer slow; whoever gets an edge works until the socket would block. A piece of work that stops short, to be
fair to the others, asks for :meth:`EventLoop.call_soon`.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import os
import select
import threading
import time
from collections.abc import Callable

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
    """An epoll loop with timers; only :meth:`call_from_thread` and :meth:`stop` may be called from other threads."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: collections.deque[Callback] = collections.deque()
        self._handed_over: collections.deque[Callback] = collections.deque()
        self._doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = False
        self._is_closed = False
        # Reentrant: a signal handler may ring while this thread does.
        self._doorbell_lock = threading.RLock()
        self.watch(self._doorbell, select.EPOLLIN, self._on_doorbell)

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(mask)`` when one of the events happens on the descriptor."""
        self._epoll.register(descriptor, events)
        self._callbacks[descriptor] = callback

    def unwatch(self, descriptor: int) -> None:
        """Stop watching, before the descriptor is closed; one not watched is ignored."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

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
        with self._doorbell_lock:
            if not self._is_closed:
                os.eventfd_write(self._doorbell, 1)

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
        callbacks = self._callbacks
        for descriptor, mask in self._epoll.poll(self._wait_seconds(timeout), _MOST_EVENTS):
            callback = callbacks.get(descriptor)
            if callback is not None:  # An earlier callback of this turn may have closed it.
                callback(mask)
        for _ in range(len(self._soon)):
            self._soon.popleft()()
        if self._timers:
            self._run_timers()

    def _wait_seconds(self, timeout: float | None) -> float | None:
        if self._soon:
            return 0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return timeout
        until_due = max(0.0, self._timers[0][0] - time.monotonic())
        return until_due if timeout is None else min(until_due, timeout)

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def _on_doorbell(self, _mask: int) -> None:
        os.eventfd_read(self._doorbell)
        for _ in range(len(self._handed_over)):
            self._handed_over.popleft()()

    def close(self) -> None:
        """Close the loop's own descriptors; work handed over later is dropped."""
        with self._doorbell_lock:
            self._is_closed = True
            self._epoll.close()
            os.close(self._doorbell)
