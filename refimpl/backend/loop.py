"""What the backend does, one round after another: descriptors, timers, and work that comes from other threads.

One thread is at work at a time: it has the *turn*. The others sleep, each on its own kind of event: the loop's thread
on descriptors, and one on event channels where these have no descriptor. Whoever wakes hands in what it has found and
wants the turn; if another has that, it leaves the looking to it until it is done. So while things happen in quick
succession one thread sees to all of them, and neither we nor who sends us something has anybody to wake.

Descriptors are watched edge-triggered, so that a socket is registered once and costs no system call while its ring is
full or its peer slow; whoever gets an edge works until the socket would block. A piece of work that stops short, to be
fair to the others, asks for :meth:`EventLoop.call_soon`. A callback may be called once more than there are events.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import heapq
import itertools
import math
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

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
    """An epoll loop with timers.

    Other threads may call :meth:`call_from_thread`, :meth:`take_turn` and :meth:`stop`; the rest is for whoever has the
    turn.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        #: By descriptor: its callback, the events watched, and which registration it is.
        self._watched: dict[int, _Watched] = {}
        self._registrations = 0
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: collections.deque[Callback] = collections.deque()
        # Work that a thread has found, or was given, and that is done by whoever has the turn.
        self._found: collections.deque[Callback] = collections.deque()
        self._doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_rung = False
        self._turn = threading.Lock()
        self._finders: list[Callable[[], bool]] = []
        self._look_out = LookOut()
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
        self._registrations += 1
        self._watched[descriptor] = _Watched(callback, events, self._registrations)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching, before the descriptor is closed; one not watched is ignored."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def add_finder(self, find: Callable[[], bool]) -> None:
        """Have ``find()`` called too when the loop looks for work: it does what it finds, and says whether it did."""
        self._finders.append(find)

    def call_soon(self, callback: Callback) -> None:
        """Call once, in the next round: after what else is ready has had its own."""
        self._soon.append(callback)

    def call_later(self, delay_seconds: float, callback: Callback) -> Timer:
        """Call once after a delay."""
        timer = Timer(time.monotonic() + delay_seconds, callback)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        return timer

    def call_from_thread(self, callback: Callback) -> None:
        """Call once by whoever has the turn; safe anywhere, also from a signal handler."""
        self._found.append(callback)
        self.ring_doorbell()

    def ring_doorbell(self) -> None:
        """Wake the loop; one that is closed stays so."""
        if self._is_rung:
            return  # It has still to answer, and looks for everything after that.
        with self._doorbell_lock:
            if not self._is_closed:
                self._is_rung = True
                os.eventfd_write(self._doorbell, 1)

    def take_turn(self, work: Callback, leave: Callback) -> None:
        """Have ``work()`` done by this thread, which is not the loop's, or by the one that has the turn just now.

        Returns once nobody is at work; just before that this thread calls ``leave()``. What the work raises,
        raises :meth:`run`.
        """
        self._found.append(work)
        with self._turn:
            try:
                if self._found:
                    self._work()
            except Exception as error:
                self.call_from_thread(functools.partial(_throw, error))
            finally:
                leave()
            must_ring = self._stopping or self._next_due() < self._wakes_at
        if must_ring:
            self.ring_doorbell()

    def stop(self) -> None:
        """End :meth:`run` after the round in progress; safe anywhere."""
        self._stopping = True
        self.ring_doorbell()

    def run(self) -> None:
        """Work until :meth:`stop`."""
        while not self._stopping:
            self._sleep(None)
            with self._turn:
                self._work()

    def run_once(self, timeout: float | None = None) -> None:
        """Work one round: wait for events (at most ``timeout`` seconds), then carry out what is due."""
        self._sleep(timeout)
        with self._turn:
            self._run_round()

    def _sleep(self, timeout: float | None) -> None:
        """Wait for events, and hand in what is to be done for them."""
        seconds, registrations = self._wait_seconds(timeout), self._registrations
        events = self._epoll.poll(seconds, _MOST_EVENTS)
        if events:
            self._found.append(functools.partial(self._run_callbacks, events, registrations))

    def _work(self) -> None:
        """Work round after round, until nothing was found for a while."""
        self._run_round()
        if not self._look_out.pays():
            while (self._soon or self._found) and not self._stopping:
                self._look()
            return
        paid, give_up_at = False, time.monotonic() + LOOK_OUT_SECONDS
        while not self._stopping:
            if self._look():
                paid, give_up_at = True, time.monotonic() + LOOK_OUT_SECONDS
            elif time.monotonic() >= give_up_at:
                break
        self._look_out.tell(paid)

    def _look(self) -> bool:
        """Work a round on what there is, without waiting; return whether there was anything."""
        registrations = self._registrations
        events = self._epoll.poll(0, _MOST_EVENTS)
        if events:
            self._run_callbacks(events, registrations)
        found = bool(events or self._soon or self._found)
        for find in self._finders:
            found |= find()
        self._run_round()
        return found

    def _run_round(self) -> None:
        for _ in range(len(self._found)):
            self._found.popleft()()
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
                self._epoll.modify(
                    descriptor, bearer.events
                )  # Another bearer of the number: tells its own events anew.
            else:
                bearer.callback(mask)

    def _wait_seconds(self, timeout: float | None) -> float | None:
        with self._turn:
            self._wakes_at = due = 0.0 if self._soon or self._found else self._next_due()
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
        with contextlib.suppress(BlockingIOError):  # Two threads may have found it, and the other was first.
            os.eventfd_read(self._doorbell)
        self._is_rung = False  # Before the work is taken: what is added later rings again.

    def close(self) -> None:
        """Close the loop's own descriptors; work handed over later is dropped."""
        with self._doorbell_lock:
            self._is_closed = True
            self._epoll.close()
            os.close(self._doorbell)


def _throw(error: Exception) -> NoReturn:
    raise error
