"""A data ring of the frontend's: set up, waited for, and taken down.

Once it is taken down, by close or with the device, what was received before is kept to be delivered.

Spec: Indexes Page and Data ring, the frontend's part.
"""

from __future__ import annotations

import errno
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from refimpl.commands.error_numbers import ErrorNumber
from refimpl.data_ring.workflow import frontend_ends
from refimpl.errors import LimitReached, PeerViolation
from refimpl.frontend.data_ring_pages import DataRingPages
from refimpl.frontend.wire_errors import fresh

if TYPE_CHECKING:
    from refimpl.frontend.device import Device


class DataRing:
    """The pages, the event channel and both ends of a data ring; a source of events (waiting.Source).

    ``ref`` and ``port`` go into CONNECT or ACCEPT. One lock guards all of it, and is never held while waiting.
    Raises OSError(ENOBUFS) where the platform has no room for it, and DeviceGone.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._events = device.events
        self._lock = threading.Lock()
        self._pages = pages = _set_up(device)
        self.ref, self.port = pages.ref, pages.port
        self._page = pages.indexes_page
        rule, fences = device.options.notify_consumer, device.platform.fences
        try:
            self._in, self._out = frontend_ends(self._page, pages.memory, fences, device.peer, notify_consumer=rule)
        except PeerViolation as violation:
            pages.end()  # It guessed the grant, and wrote before it was told.
            raise _broken(violation) from violation  # (E-IDXINIT)
        self._piece = self._out.piece
        self._read_fence = fences.read
        self._notify_port = device.platform.notify
        # Why the ring is not ours to use any more, and what ``in`` still held then.
        self._ended: Exception | None = None
        self._leftover = memoryview(b"")
        self._is_down = False
        self._output_left = 0
        self.bytes_sent = self.bytes_received = self.notifications = 0
        try:
            device.add(self)
        except BaseException:
            self.take_down(device.error())
            raise

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
        return not self.is_drained()

    def renotify(self) -> None:
        """Notify the backend once more that there is data in ``out``."""
        with self._lock:
            if self._ended is None:
                self._notify()

    def is_drained(self) -> bool:
        """Say whether the backend has taken all of ``out``, or can't any more."""
        with self._lock:
            if self._ended is not None:
                return True
            try:
                return self._out.is_drained or self._page.out_error != 0
            except PeerViolation:
                return True

    def takes_output(self) -> bool:
        """Say whether the backend took some of ``out`` since this was last asked; at first, whether some is left."""
        left = 0
        with self._lock, suppress(PeerViolation):
            if self._ended is None and not self._page.out_error:
                left = self._out.unconsumed
        before, self._output_left = self._output_left, left
        return left != before

    def publish(self) -> None:
        """Tell the backend all that was taken of ``in``: before RELEASE."""
        with self._lock:
            if self._ended is None:
                self._publish()

    def promise_to_reuse(self) -> bool:
        """Say whether the ring shall be kept when it is taken down, which RELEASE then says."""
        device = self._device
        is_as_wished = self._ended is None and self._pages.ring_order == device.ring_order
        return is_as_wished and device.spare_rings.has_room()

    def take_down(self, reason: Exception, *, keep_input: bool = False, keep_ring: bool = False) -> None:
        """Give everything back; calls from now on raise ``reason``, after the data received so far if that is kept.

        ``keep_ring`` is for one that the backend has let go of, as it was promised. A second call does nothing.
        Threads that wait are not woken here: see Events.wake_all.
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
                        self.bytes_received += len(self._leftover)
            self._in.release()
            self._out.release()
            if keep_ring:
                self._pages.renew(self.bytes_received, self.bytes_sent)
                self._device.spare_rings.keep(self._pages)
            else:
                self._pages.end()
        self._device.forget(self)
        self._device.tally.add(sent=self.bytes_sent, received=self.bytes_received, notifications=self.notifications)

    def disown(self, reason: Exception) -> None:
        """In a forked child: read and write nothing of it, and wait for no thread that is not here."""
        self._lock = threading.Lock()
        self._ended = reason

    def _break(self, violation: PeerViolation) -> Exception:
        """Use the ring no more; the lock is held. What is the peer's to break is this socket only."""
        self._ended = _broken(violation)  # SEC-F-6 (E-IDXBAD)
        return fresh(self._ended)

    def _publish(self) -> None:
        if self._in.publish():
            self._notify()  # WORKFLOW-12 (E-CONSNOTIFY)

    def _notify(self) -> None:
        """Notify the backend; the lock is held, so the port is still ours."""
        self.notifications += 1
        self._notify_port(self.port)


def _set_up(device: Device) -> DataRingPages:
    spare = device.spare_rings.take()
    if spare is not None:
        return spare
    try:
        return DataRingPages(device.platform, device.peer, device.ring_order, device.page_layout)
    except LimitReached as reached:
        raise OSError(errno.ENOBUFS, str(reached)) from reached


def _broken(violation: PeerViolation) -> OSError:
    error = OSError(errno.EIO, str(violation))
    vars(error)["error_number"] = int(ErrorNumber.EIO)
    return error
