"""Event channels into the event loop: which port fired, and who looks after it.

Where the platform has a descriptor for its events the loop watches that. Where it has none (a POSIX semaphore cannot
be selected on) a thread waits, and hands in what fired. Either way a port is rearmed only after its work.

A port that keeps firing with nothing to do is rearmed later and later, so that a storm costs its sender more than us.
"""

from __future__ import annotations

import functools
import select
import threading
import time
from collections.abc import Callable, Sequence

from refimpl.backend.loop import EventLoop
from refimpl.backend.shares import Share
from refimpl.errors import DomainClosed
from refimpl.platform import Platform

#: Returns whether there was anything to do.
Handler = Callable[[], bool]

#: So many useless events in one window are free: a frontend that notifies after each read causes some.
FREE_USELESS_EVENTS = 64
WINDOW_SECONDS = 0.01
FIRST_DELAY_SECONDS = 0.004
LONGEST_DELAY_SECONDS = 1.0


class _Port:
    """A port's handler, whose share of the loop it runs on, and how many useless events it had lately."""

    __slots__ = ("delay", "handler", "run", "share", "useless", "window_start")

    def __init__(self, handler: Handler, share: Share | None = None, run: Callable[[], None] | None = None) -> None:
        self.handler = handler
        self.share = share
        #: Calls the handler, then rearms the port.
        self.run = run
        self.useless = 0
        self.window_start = 0.0
        self.delay = 0.0

    def delay_after_useless_event(self) -> float:
        """Return how long to leave the port masked, in seconds: 0 unless it storms."""
        now = time.monotonic()
        if now - self.window_start > WINDOW_SECONDS + self.delay:
            self.window_start, self.useless, self.delay = now, 0, 0.0
        self.useless += 1
        if self.useless > FREE_USELESS_EVENTS or self.delay:
            self.window_start = now
            self.delay = min(LONGEST_DELAY_SECONDS, max(FIRST_DELAY_SECONDS, self.delay * 2))  # SEC-B-14
        return self.delay


class Upcalls:
    """Runs each port's handler when the port fires."""

    def __init__(self, loop: EventLoop, platform: Platform) -> None:
        self._loop = loop
        self._platform = platform
        self._ports: dict[int, _Port] = {}
        self._closing = False
        self._thread: threading.Thread | None = None
        #: Events received, for statistics.
        self.received = 0
        descriptor = platform.fileno()
        if descriptor is not None:
            loop.watch(descriptor, select.EPOLLIN, self._on_descriptor)
        else:
            self._thread = threading.Thread(target=self._wait_for_ports, name="upcalls", daemon=True)
            self._thread.start()

    def attach(self, port: int, handler: Handler, share: Share | None = None) -> None:
        """Call ``handler()`` when the port fires; what it missed before is asked for with a first event.

        Where that is a guest's, it has its turn by the guest's ``share``, and the port stays masked until then.
        """
        attached = self._ports[port] = _Port(handler, share)
        attached.run = functools.partial(self._run, port, attached)

    def detach(self, port: int) -> None:
        """Forget the port; a late event for it is dropped."""
        self._ports.pop(port, None)

    def _on_descriptor(self, _mask: int) -> None:
        self._handle(self._platform.wait(0))

    def _wait_for_ports(self) -> None:
        while not self._closing:
            try:
                ports = self._platform.wait(None)
            except DomainClosed:
                return
            if ports:
                self._loop.call_from_thread(functools.partial(self._handle, ports))

    def _handle(self, ports: Sequence[int]) -> None:
        self.received += len(ports)
        for number in ports:
            port = self._ports.get(number)
            if port is None or port.run is None:
                self._platform.rearm(number)  # Closed meanwhile, or fired before it was attached.
            elif port.share is not None:
                port.share.work(port.run)
            else:
                port.run()

    def _run(self, number: int, port: _Port) -> None:
        if self._ports.get(number) is not port:
            return  # Closed while it waited for its turn.
        if port.handler():
            self._platform.rearm(number)
        else:
            self._rearm_useless(number, port)

    def _rearm_useless(self, number: int, port: _Port) -> None:
        delay = port.delay_after_useless_event()
        if not delay:
            self._platform.rearm(number)
            return

        def rearm() -> None:
            if self._ports.get(number) is port:
                self._platform.rearm(number)

        self._loop.call_later(delay, rearm)

    def close(self) -> None:
        """Stop; the platform must still be open."""
        self._closing = True
        descriptor = self._platform.fileno()
        if descriptor is not None:
            self._loop.unwatch(descriptor)
        if self._thread is not None:
            self._platform.wake()
            self._thread.join()
