"""Who waits for this domain's events: any thread may, one of them does, for all.

A platform lets one thread at a time wait. Here the first thread that has to wait becomes the *leader*: it waits on the
platform itself, with no thread of ours between it and its event. Threads that come meanwhile are followers; the leader
wakes those whose event channel fired, and when it has what it waited for it appoints the next leader. A dispatcher
thread would cost every single wake-up a second one.

A port that fired stays masked until somebody has to wait for it again: events nobody waits for, however many, cost
nothing. And one that keeps firing with nothing new behind it is rearmed later and later.

Rules that keep wake-ups from getting lost:

- look, rearm, then wait: what came before the rearm is delivered after it, on every platform;
- a waiter is registered before it looks, so an event is either seen by the look or wakes it;
- whoever leaves appoints a leader if followers are left.

Spec: Commands Ring; Indexes Page and Data ring > Workflow (what *notify the other end* wakes).
"""

from __future__ import annotations

import errno
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from refimpl.data_ring.notification import renotify_delays
from refimpl.frontend.throttle import Throttle
from refimpl.look_out import LOOK_OUT_SECONDS, LookOut
from refimpl.platform import Platform

#: How long the first wait is before it looks again, and whether the peer has taken what we sent, in seconds.
FIRST_WAIT_SECONDS = 0.005
#: No later one is longer than this.
LONGEST_WAIT_SECONDS = 1.0
#: The deadline of a call that does not wait.
AT_ONCE = 0.0


def deadline_after(timeout: float | None) -> float | None:
    """Return the deadline ``timeout`` seconds from now; None is never, 0 is :data:`AT_ONCE`."""
    if timeout is None:
        return None
    return time.monotonic() + timeout if timeout > 0 else AT_ONCE


def timed_out(deadline: float | None) -> OSError:
    """Return what the socket module raises when a deadline has come: BlockingIOError for a call that does not wait."""
    if deadline == AT_ONCE:
        return BlockingIOError(errno.EAGAIN, "nothing now, and the socket does not block")
    return TimeoutError("timed out")


@contextmanager
def turn(lock: threading.Lock, deadline: float | None) -> Iterator[None]:
    """Hold a lock that others may hold while they wait. Raises TimeoutError at the deadline, or BlockingIOError."""
    timeout = -1 if deadline is None else max(0.0, deadline - time.monotonic())
    if not lock.acquire(timeout=timeout):
        raise timed_out(deadline)
    try:
        yield
    finally:
        lock.release()


class Source(Protocol):
    """Something of ours with an event channel that a thread can wait for."""

    #: Our event channel.
    port: int

    def activity(self) -> object:
        """Return something that differs once the peer has done anything."""

    def is_untaken(self) -> bool:
        """Say whether the peer has not taken all that we sent."""

    def renotify(self) -> None:
        """Notify the peer once more."""


class _Waiter:
    """A thread inside :meth:`Events.wait_until`."""

    __slots__ = ("_signal", "ports", "sources")

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.ports = {source.port for source in sources}
        self._signal: threading.Lock | None = None

    def become_follower(self) -> None:
        """Make what wakes it; a leader needs none."""
        self._signal = threading.Lock()
        self._signal.acquire()

    def block(self, timeout: float) -> None:
        """Sleep as a follower until woken, or until the time runs out."""
        if self._signal is not None:
            self._signal.acquire(timeout=timeout)

    def wake(self) -> None:
        """End the sleep, or the next one; the lock of :class:`Events` is held."""
        if self._signal is not None and self._signal.locked():
            self._signal.release()


class Events:
    """The events of one domain, and the threads that wait for them."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._lock = threading.Lock()
        self._leader: _Waiter | None = None
        self._followers: list[_Waiter] = []
        self._masked: set[int] = set()
        self._throttles: dict[int, Throttle] = {}
        self._look_out = LookOut()
        self._looking_out = threading.Lock()
        #: How many events came in.
        self.received = 0

    @classmethod
    def of(cls, platform: Platform) -> Events:
        """Return the platform's one instance; who uses it keeps it, and with it the platform."""
        with _instances_lock:
            return _instances.setdefault(id(platform), cls(platform))

    def wait_until(
        self,
        sources: Sequence[Source],
        look: Callable[[], bool],
        deadline: float | None = None,
        *,
        seen: int | None = None,
    ) -> bool:
        """Wait until ``look()`` says so; return False if the deadline (of ``time.monotonic``) comes first.

        ``look`` runs at once, after each event of the sources, after :meth:`wake_all`, and once a second in any case.
        What it raises comes out. While a source's peer has not taken what we sent, it is notified again.

        ``seen`` spares the first look: the caller has looked already, after it read ``seen`` from :attr:`received`.
        """
        if self._leader is None and self._find_before_sleep(look, deadline):
            return True
        waiter = _Waiter(sources)
        self._join(waiter)
        try:
            # An event that came between the caller's look and the registration went to others, or to nobody.
            if seen != self.received and look():
                return True
            delays: Iterator[float] | None = None
            pause = FIRST_WAIT_SECONDS
            while True:
                end = time.monotonic() + pause
                if deadline is not None and deadline < end:
                    end = deadline
                if self._wait_and_look(waiter, look, end):
                    return True
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                delays = self._renotify(sources, delays)
                pause = LONGEST_WAIT_SECONDS if delays is None else next(delays)
        finally:
            self._leave(waiter)

    def wake_all(self) -> None:
        """Make every waiting thread look again; from any thread."""
        with self._lock:
            for follower in self._followers:
                follower.wake()
        self._platform.wake()

    def close_port(self, port: int) -> None:
        """Close an event channel; whoever waits for it is not woken: see :meth:`wake_all`."""
        self._platform.close_port(port)
        self._masked.discard(port)
        self._throttles.pop(port, None)

    def renew_port(self, port: int) -> None:
        """Forget how an event channel behaved: another connection has it from now on."""
        self._throttles.pop(port, None)

    def forget_threads(self) -> None:
        """Forget every waiting thread: in a forked child there are none."""
        self._lock = threading.Lock()
        self._looking_out = threading.Lock()
        self._leader, self._followers = None, []

    def _wait_and_look(self, waiter: _Waiter, look: Callable[[], bool], end: float) -> bool:
        """Wait until ``look`` says so, or until ``end``: then return False. It has looked since it was registered."""
        was_useless = False
        while True:
            now = time.monotonic()
            if now >= end:
                return False
            until = self._rearm(waiter, now, end, was_useless) if self._masked else end
            if self._leader is waiter:
                self._lead(waiter, now, until)
            else:
                waiter.block(until - now)
            if look():
                return True
            was_useless = True

    def _find_before_sleep(self, look: Callable[[], bool], deadline: float | None) -> bool:
        """Say whether ``look`` said so while nobody slept: one thread looks out, and needs no event for that."""
        if deadline is not None and deadline - time.monotonic() < LOOK_OUT_SECONDS:
            return False
        if not self._looking_out.acquire(blocking=False):
            return False
        try:
            return bool(self._look_out.find(look))
        finally:
            self._looking_out.release()

    def _rearm(self, waiter: _Waiter, now: float, end: float, was_useless: bool) -> float:
        """Let the waiter's ports fire again that have fired; return until when to wait: ``end``, or a held port's time.

        ``was_useless`` says that the last event has shown nothing of what is waited for.
        """
        for source in waiter.sources:
            port = source.port
            if port not in self._masked:
                continue
            throttle = self._throttles.get(port)
            if throttle is None and was_useless:
                throttle = self._throttles[port] = Throttle()
            if throttle is not None:
                if was_useless and not throttle.rearm_at:
                    throttle.take_event(source.activity())
                if throttle.rearm_at > now:
                    end = min(end, throttle.rearm_at)
                    continue
                throttle.rearm_at = 0.0
            self._masked.discard(port)  # Before it can fire again.
            self._platform.rearm(port)
        return end

    def _renotify(self, sources: Sequence[Source], delays: Iterator[float] | None) -> Iterator[float] | None:
        """Notify the peers again that have not taken what we sent; return when to do that next, None if all have."""
        untaken = [source for source in sources if source.is_untaken()]
        for source in untaken:
            source.renotify()  # NORING-5 (E-CONSNOTIFY)
        return (delays or renotify_delays()) if untaken else None

    def _lead(self, waiter: _Waiter, now: float, until: float) -> None:
        """Wait on the platform until a port of the waiter's fires, :meth:`wake_all` is called, or time runs out."""
        while now < until:
            fired = self._platform.wait(until - now)
            if not fired:
                return
            # In this order: see wait_until.
            self.received += len(fired)
            self._masked.update(fired)
            if self._followers:
                self._wake_followers(fired)
            if not waiter.ports.isdisjoint(fired):
                return
            now = time.monotonic()

    def _wake_followers(self, fired: Sequence[int]) -> None:
        with self._lock:
            for follower in self._followers:
                if not follower.ports.isdisjoint(fired):
                    follower.wake()

    def _join(self, waiter: _Waiter) -> None:
        with self._lock:
            if self._leader is None:
                self._leader = waiter
            else:
                waiter.become_follower()
                self._followers.append(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            if self._leader is not waiter:
                self._followers.remove(waiter)
            elif self._followers:
                self._leader = self._followers.pop(0)
                self._leader.wake()
            else:
                self._leader = None


#: By the id of the platform: one that lives has its own, and an instance keeps its platform alive.
_instances: weakref.WeakValueDictionary[int, Events] = weakref.WeakValueDictionary()
_instances_lock = threading.Lock()
