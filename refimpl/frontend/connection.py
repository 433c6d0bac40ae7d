"""A connected socket's bytes on the frontend's side: ``in`` into the caller's memory, the caller's memory into ``out``.

The frontend consumes ``in`` and produces ``out``. Sending and receiving are no commands: a copy, an index, perhaps an
event, and only where there is nothing to copy a wait. One lock a connection, never held while waiting.

Once the ring is taken down, by close or with the device, what was received before is still delivered.

Spec: Indexes Page and Data ring, the frontend's part.
"""

from __future__ import annotations

import errno
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from refimpl.commands.error_numbers import ErrorNumber
from refimpl.data_ring.notification import doubling
from refimpl.data_ring.workflow import frontend_ends
from refimpl.errors import PeerViolation
from refimpl.frontend.data_ring_pages import DataRingPages
from refimpl.frontend.observing import DATA_RING
from refimpl.frontend.waiting import timed_out
from refimpl.frontend.wire_errors import end_of_stream, fresh, wire_error

if TYPE_CHECKING:
    from refimpl.frontend.device import Device

# A backend that has taken everything need not say so: look again soon, and seldom later, in seconds.
_FIRST_DRAIN_LOOK = 0.00005
_LAST_DRAIN_LOOK = 0.005


class Connection:
    """A data ring of ours and, once the backend has answered, the connection behind it.

    ``ref`` and ``port`` go into CONNECT or ACCEPT. Raises LimitReached, DeviceGone.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._pages = pages = DataRingPages(device.platform, device.peer, device.ring_order, device.page_layout)
        self.ref, self._port = pages.ref, pages.port
        self._page = pages.indexes_page
        rule, fences = device.options.notify_consumer, device.platform.fences
        self._in, self._out = frontend_ends(self._page, pages.memory, fences, device.peer, notify_consumer=rule)
        self._read_fence = fences.read
        self._notify_port = device.platform.notify
        #: Why the ring is not ours to use any more.
        self._ended: Exception | None = None
        #: What ``in`` still held when it was taken down.
        self._leftover = memoryview(b"")
        self._is_down = False
        self.bytes_sent = self.bytes_received = self.notifications = 0
        try:
            device.add(self)
        except BaseException:
            self.take_down(device.error())
            raise

    # Receiving.

    def recv(self, size: int, deadline: float | None) -> bytes:
        """Return 1 to ``size`` bytes as soon as there are any, ``b""`` at the end of the stream.

        Raises TimeoutError, or OSError with the backend's ``in_error`` once all data before it was delivered.
        """
        while True:
            with self._lock:
                if self._ended is not None:
                    return self._take_leftover(size)
                try:
                    data, must_notify = self._in.read(size)  # IDXPAGE-11, SEC-F-7
                except PeerViolation as violation:
                    raise self._break(violation) from violation
                if data:
                    self._received(len(data), must_notify)
                    return data
                if self._is_input_over():
                    return b""
            self._wait_for_input(deadline)

    def recv_into(self, target: memoryview, deadline: float | None) -> int:
        """As :meth:`recv`, into the caller's memory (format ``"B"``); return how many bytes, 0 at the end."""
        while True:
            with self._lock:
                if self._ended is not None:
                    data = self._take_leftover(len(target))
                    target[: len(data)] = data
                    return len(data)
                try:
                    count, must_notify = self._in.read_into(target)  # IDXPAGE-11, SEC-F-7
                except PeerViolation as violation:
                    raise self._break(violation) from violation
                if count:
                    self._received(count, must_notify)
                    return count
                if self._is_input_over():
                    return 0
            self._wait_for_input(deadline)

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
        self.bytes_received += len(data)
        if not data and self._ended is not None:
            raise fresh(self._ended)
        return data

    def _wait_for_input(self, deadline: float | None) -> None:
        if not self._device.events.wait_until((self,), self.is_readable, deadline):
            raise timed_out(deadline)

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
                if self._in.publish():
                    self._notify()
            except PeerViolation:
                return True
        return False

    # Sending.

    def send(self, data: bytes | memoryview, deadline: float | None) -> int:
        """Put as much of ``data`` into ``out`` as fits, waiting until some does; return how many bytes.

        Raises TimeoutError, or OSError with the backend's ``out_error``.
        """
        while True:
            with self._lock:
                self._check_output()
                try:
                    count, must_notify = self._out.write(data)  # IDXPAGE-12, IDX-2
                except PeerViolation as violation:
                    raise self._break(violation) from violation
                if count:
                    self.bytes_sent += count
                    if must_notify:
                        self._notify()  # WORKFLOW-8
                    if self._device.observer is not None:
                        self._device.observe(DATA_RING, f"{count} bytes into out" + ", notify" * must_notify)
                    return count
            if not self._device.events.wait_until((self,), self.is_writable, deadline):
                raise timed_out(deadline)

    def sendall(self, data: memoryview, deadline: float | None) -> int:
        """As :meth:`send`, until all of it is in ``out``."""
        sent = 0
        while sent < len(data):
            with data[sent:] as rest:
                sent += self.send(rest, deadline)
        return sent

    def _check_output(self) -> None:
        if self._ended is not None:
            raise fresh(self._ended)
        error = self._page.out_error
        if error:
            raise wire_error(error, "send")  # WORKFLOW-5 (E-OUTERR)

    def is_writable(self) -> bool:
        """Say whether :meth:`send` would not wait. Publishes what was taken of ``in``, so that it is safe to wait."""
        with self._lock:
            if self._ended is not None:
                return True
            try:
                if self._out.free or self._page.out_error:
                    return True
                if self._in.publish():
                    self._notify()
            except PeerViolation:
                return True
        return False

    def drain(self, deadline: float) -> bool:
        """Wait until the backend has taken all of ``out``, or can't any more; return False at the deadline."""
        wait_until, now = self._device.events.wait_until, time.monotonic
        # The backend notifies us only where out had been full, so look again on our own.
        for pause in doubling(_FIRST_DRAIN_LOOK, _LAST_DRAIN_LOOK, total=4 * _LAST_DRAIN_LOOK):
            if wait_until((self,), self._is_drained, min(deadline, now() + pause)):
                return True
        return wait_until((self,), self._is_drained, deadline)  # (E-SENDCLOSE)

    def _is_drained(self) -> bool:
        with self._lock:
            if self._ended is not None:
                return True
            try:
                return self._out.is_drained or self._page.out_error != 0
            except PeerViolation:
                return True

    # The event channel; see waiting.Source.

    @property
    def port(self) -> int:
        """The data ring's event channel."""
        return self._port

    def activity(self) -> object:
        """Return what the peer changes when it does something."""
        with self._lock:
            if self._ended is not None:
                return None
            try:
                errors = self._page.in_error, self._page.out_error
                return self._in.available, self._out.free, errors, self.bytes_received, self.bytes_sent
            except PeerViolation:
                return None

    def is_untaken(self) -> bool:
        """Say whether the backend has not taken all of ``out``, and still could."""
        return not self._is_drained()

    def renotify(self) -> None:
        """Notify the backend once more that there is data in ``out``."""
        with self._lock:
            if self._ended is None:
                self._notify()

    def _notify(self) -> None:
        """Notify the backend; the lock is held, so the port is still ours."""
        self.notifications += 1
        self._notify_port(self._port)

    # The end.

    def take_down(self, reason: Exception, *, keep_input: bool = False) -> None:
        """Give everything back; calls from now on raise ``reason``, after the data received so far if that is kept.

        A second call does nothing. Threads that wait are not woken here: see Events.wake_all.
        """
        with self._lock:
            if self._is_down:
                return
            self._is_down = True
            if self._ended is None:
                self._ended = reason
                if keep_input:
                    with suppress(PeerViolation):
                        self._leftover = memoryview(b"".join(self._in.readable()))  # (E-DRAIN)
            self._in.release()
            self._out.release()
            self._pages.end()
        self._device.forget(self)
        self._device.tally.add(sent=self.bytes_sent, received=self.bytes_received, notifications=self.notifications)

    def disown(self, reason: Exception) -> None:
        """In a forked child: read and write nothing of it, and wait for no thread that is not here."""
        self._lock = threading.Lock()
        self._ended = reason

    def publish(self) -> None:
        """Tell the backend all that was taken of ``in``: before RELEASE."""
        with self._lock:
            if self._ended is None and self._in.publish():
                self._notify()

    def _break(self, violation: PeerViolation) -> OSError:
        """Use the ring no more; the lock is held. What is the peer's to break is this socket only."""
        self._ended = error = OSError(errno.EIO, str(violation))  # SEC-F-6 (E-IDXBAD)
        vars(error)["error_number"] = int(ErrorNumber.EIO)
        return fresh(error)
