"""What the backend does, one round after another, in one thread: descriptors, timers, and work handed in by others.

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
from typing import NamedTuple

from refimpl.look_out import LOOK_OUT_SECONDS, LookOut

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


class _Watched(NamedTuple):
    """A descriptor that is watched."""

    callback: Callable[[int], None]
    events: int
    registration: int


class EventLoop:
    """An epoll loop with timers. Other threads may call :meth:`call_from_thread` and :meth:`stop`, and nothing else."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        #: By descriptor: its callback, the events watched, and which registration it is.
        self._watched: dict[int, _Watched] = {}
        self._registrations = 0
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: collections.deque[Callback] = collections.deque()
        self._handed_in: collections.deque[Callback] = collections.deque()
        self._doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_rung = False
        # After a round with events the loop looks out for answers before it sleeps; those of guests and those of the
        # network are as likely as they are.
        self._for_guests, self._for_the_network = LookOut(), LookOut()
        self._poll_at_once = functools.partial(self._epoll.poll, 0, _MOST_EVENTS)
        #: How many events the last round had.
        self._events_before = 0
        #: Set this where a guest has been told something in this round.
        self.has_told_a_guest = False
        #: Count here what will not go on before the end of a look-out, so that a round of nothing else has none: who is
        #: to do much first needs a processor, maybe this one.
        self.long_waits = 0
        self._stopping = False
        self._is_closed = False
        # Reentrant: a signal handler may ring while this thread does.
        self._doorbell_lock = threading.RLock()
        self.watch(self._doorbell, select.EPOLLIN, self._on_doorbell)

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(mask)`` when one of the events happens on the descriptor."""
        self._epoll.register(descriptor, events)
        self._registrations += 1
        self._watched[descriptor] = _Watched(callback, events, self._registrations)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching, before the descriptor is closed; one not watched is ignored."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def call_soon(self, callback: Callback) -> None:
        """Call once, in the next round: after what else is ready has had its own."""
        self._soon.append(callback)

    def call_later(self, delay_seconds: float, callback: Callback) -> Timer:
        """Call once after a delay."""
        timer = Timer(time.monotonic() + delay_seconds, callback)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        return timer

    def call_from_thread(self, callback: Callback) -> None:
        """Call once, in the loop's own thread; safe anywhere, also from a signal handler."""
        self._handed_in.append(callback)
        self.ring_doorbell()

    def ring_doorbell(self) -> None:
        """Wake the loop; one that is closed stays so."""
        if self._is_rung:
            return  # It has still to answer, and looks for everything after that.
        with self._doorbell_lock:
            if not self._is_closed:
                self._is_rung = True
                os.eventfd_write(self._doorbell, 1)

    def stop(self) -> None:
        """End :meth:`run` after the round in progress; safe anywhere."""
        self._stopping = True
        self.ring_doorbell()

    def run(self) -> None:
        """Work until :meth:`stop`."""
        while not self._stopping:
            self.run_once()

    def run_once(self, timeout: float | None = None) -> None:
        """Work one round: wait for events (at most ``timeout`` seconds), then carry out what is due."""
        registrations = self._registrations
        events = self._wait_for_events(self._wait_seconds(timeout))
        if events:
            self._run_callbacks(events, registrations)
        for _ in range(len(self._handed_in)):
            self._handed_in.popleft()()
        for _ in range(len(self._soon)):
            self._soon.popleft()()
        if self._timers:
            self._run_timers()

    def _run_callbacks(self, events: Sequence[tuple[int, int]], registrations: int) -> None:
        """Call back for events that were found when there had been so many registrations."""
        watched = self._watched
        for descriptor, mask in events:
            bearer = watched.get(descriptor)
            if bearer is None:
                continue  # Closed since.
            if bearer.registration > registrations:
                # Another bearer of the number: have it tell its own events anew.
                self._epoll.modify(descriptor, bearer.events)
            else:
                bearer.callback(mask)

    def _wait_for_events(self, seconds: float | None) -> list[tuple[int, int]]:
        """Return the events there are within so many seconds; None waits for ever."""
        events = None
        if self._events_before > self.long_waits and (seconds is None or seconds > LOOK_OUT_SECONDS):
            look_out = self._for_guests if self.has_told_a_guest else self._for_the_network
            events = look_out.find(self._poll_at_once)
        if events is None:
            events = self._epoll.poll(seconds, _MOST_EVENTS)
        self.has_told_a_guest, self.long_waits, self._events_before = False, 0, len(events)
        return events

    def _wait_seconds(self, timeout: float | None) -> float | None:
        if self._soon or self._handed_in:
            return 0.0
        due = self._next_due()
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

    def close(self) -> None:
        """Close the loop's own descriptors; work handed over later is dropped."""
        with self._doorbell_lock:
            self._is_closed = True
            self._epoll.close()
            os.close(self._doorbell)
