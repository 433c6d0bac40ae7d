"""A connected socket's bytes on the frontend's side: ``in`` into the caller's memory, the caller's memory into ``out``.

The frontend consumes ``in`` and produces ``out``. Sending and receiving are no commands: a copy, an index, perhaps an
event, and only where there is nothing to copy a wait.

No call moves more than a piece of a large ring, so that the backend works on one while the program does on the next.

Spec: Indexes Page and Data ring, the frontend's part.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from refimpl.data_ring.notification import doubling
from refimpl.errors import PeerViolation
from refimpl.frontend.data_ring import DataRing
from refimpl.frontend.observing import DATA_RING
from refimpl.frontend.waiting import timed_out
from refimpl.frontend.wire_errors import end_of_stream, fresh, wire_error

Result = TypeVar("Result")

# A backend that has taken everything need not say so: look again soon, and seldom later, in seconds.
_FIRST_DRAIN_LOOK = 0.00005
_LAST_DRAIN_LOOK = 0.005


class Connection(DataRing):
    """A data ring as a program uses it, once the backend has answered CONNECT or ACCEPT."""

    # Receiving.

    def recv(self, size: int, deadline: float | None) -> bytes:
        """Return 1 to ``size`` bytes as soon as there are any, ``b""`` at the end of the stream.

        Raises TimeoutError, or OSError with the backend's ``in_error`` once all data before it was delivered.
        """
        seen = self._events.received
        data = self._take(size)
        return data if data is not None else self._wait_for(lambda: self._take(size), deadline, seen)

    def recv_into(self, target: memoryview, deadline: float | None) -> int:
        """As :meth:`recv`, into the caller's memory (format ``"B"``); return how many bytes, 0 at the end."""
        seen = self._events.received
        count = self._take_into(target)
        return count if count is not None else self._wait_for(lambda: self._take_into(target), deadline, seen)

    def _take(self, size: int) -> bytes | None:
        """Return bytes, ``b""`` at the end of the stream, None where there is nothing yet: it is safe to wait then."""
        with self._lock:
            if self._ended is not None:
                return self._take_leftover(size)
            try:
                data, must_notify = self._in.read(min(size, self._piece))  # IDXPAGE-11, SEC-F-7, SEC-F-15
            except PeerViolation as violation:
                raise self._break(violation) from violation
            if data:
                self._received(len(data), must_notify)
                return data
            return b"" if self._is_input_over() else None

    def _take_into(self, target: memoryview) -> int | None:
        """As :meth:`_take`."""
        with self._lock:
            if self._ended is not None:
                data = self._take_leftover(len(target))
                target[: len(data)] = data
                return len(data)
            try:
                if len(target) > self._piece:
                    target = target[: self._piece]
                count, must_notify = self._in.read_into(target)  # IDXPAGE-11, SEC-F-7
            except PeerViolation as violation:
                raise self._break(violation) from violation
            if count:
                self._received(count, must_notify)
                return count
            return 0 if self._is_input_over() else None

    def _received(self, count: int, must_notify: bool) -> None:
        self.bytes_received += count
        if must_notify:
            self._notify()  # WORKFLOW-12 (E-CONSNOTIFY)
        if self._device.observer is not None:
            self._device.observe(DATA_RING, f"{count} bytes out of in" + ", notify" * must_notify)

    def _is_input_over(self) -> bool:
        """Say, ``in`` being empty, whether the stream has ended; raise what ended it if that was no orderly end."""
        error = self._page.in_error  # WORKFLOW-10 (E-DRAIN): after the data, never before it
        if not error:
            return False
        self._read_fence()
        try:
            if self._in.available:
                return False  # It came between the two looks.
        except PeerViolation as violation:
            raise self._break(violation) from violation
        if end_of_stream(error):
            return True
        raise wire_error(error, "recv")  # IDXPAGE-14

    def _take_leftover(self, size: int) -> bytes:
        data = self._leftover[:size].tobytes()
        self._leftover = self._leftover[size:]
        if not data and self._ended is not None:
            raise fresh(self._ended)
        return data

    def is_readable(self) -> bool:
        """Say whether :meth:`recv` would not wait: there is data, an end, or an error.

        What was taken is published if not, so that it is safe to wait.
        """
        with self._lock:
            if self._ended is not None:
                return True
            try:
                if self._in.available or self._page.in_error:
                    return True
                self._publish()
            except PeerViolation:
                return True
        return False

    # Sending.

    def send(self, data: bytes | memoryview, deadline: float | None) -> int:
        """Put as much of ``data`` into ``out`` as fits, or a piece, waiting until some fits; return how many bytes.

        Raises TimeoutError, or OSError with the backend's ``out_error``.
        """
        seen = self._events.received
        count = self._put(data)
        return count if count is not None else self._wait_for(lambda: self._put(data), deadline, seen)

    def _put(self, data: bytes | memoryview) -> int | None:
        """Return how many bytes went into ``out``, None where it is full: it is safe to wait then."""
        with self._lock:
            if self._ended is not None:
                raise fresh(self._ended)
            error = self._page.out_error
            if error:
                raise wire_error(error, "send")  # WORKFLOW-5 (E-OUTERR)
            try:
                if len(data) > self._piece:
                    data = memoryview(data)[: self._piece]
                count, must_notify = self._out.write(data)  # IDXPAGE-12, IDX-2
            except PeerViolation as violation:
                raise self._break(violation) from violation
            if not count:
                self._publish()
                return None
            self.bytes_sent += count
            if must_notify:
                self._notify()  # WORKFLOW-8
            if self._device.observer is not None:
                self._device.observe(DATA_RING, f"{count} bytes into out" + ", notify" * must_notify)
            return count

    def sendall(self, data: memoryview, deadline: float | None) -> int:
        """As :meth:`send`, until all of it is in ``out``."""
        sent = 0
        while sent < len(data):
            with data[sent:] as rest:
                sent += self.send(rest, deadline)
        return sent

    def is_writable(self) -> bool:
        """Say whether :meth:`send` would not wait. Publishes what was taken of ``in``, so that it is safe to wait."""
        with self._lock:
            if self._ended is not None:
                return True
            try:
                if self._out.free or self._page.out_error:
                    return True
                self._publish()
            except PeerViolation:
                return True
        return False

    def drain(self, deadline: float) -> bool:
        """Wait until the backend has taken all of ``out``, or can't any more; return False at the deadline."""
        wait_until, now = self._events.wait_until, time.monotonic
        # The backend notifies us only where out had been full, so look again on our own.
        for pause in doubling(_FIRST_DRAIN_LOOK, _LAST_DRAIN_LOOK, total=4 * _LAST_DRAIN_LOOK):
            if wait_until((self,), self.is_drained, min(deadline, now() + pause)):
                return True
        return wait_until((self,), self.is_drained, deadline)  # (E-SENDCLOSE)

    def _wait_for(self, attempt: Callable[[], Result | None], deadline: float | None, seen: int) -> Result:
        """Return what ``attempt`` returns once that is not None; it was tried once, after ``seen`` was read."""
        result: Result | None = None

        def look() -> bool:
            nonlocal result
            result = attempt()
            return result is not None

        if not self._events.wait_until((self,), look, deadline, seen=seen) or result is None:
            raise timed_out(deadline)
        return result
