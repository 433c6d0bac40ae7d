"""A connected socket's bytes: TCP into ``in``, ``out`` into TCP, with no copy of our own between.

The backend produces ``in`` and consumes ``out``. Nothing is buffered anywhere but in the rings (SEC-B-13): when ``in``
is full TCP is not read, when TCP takes no more ``out`` is not read, and an edge (the frontend's event, the socket's
readiness) starts it again.

Spec: Indexes Page and Data ring, the backend's part.
"""

from __future__ import annotations

import functools
import select
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from refimpl.backend import network
from refimpl.backend.byte_rate import ByteRate, PacedConsumer, PacedProducer
from refimpl.backend.loop import SOCKET_EVENTS, Timer
from refimpl.commands.error_numbers import ErrorNumber, to_wire
from refimpl.data_ring.indexes_page import IndexesPage
from refimpl.data_ring.notification import held_error_delays
from refimpl.data_ring.workflow import Consumer, Producer
from refimpl.errors import PeerViolation

if TYPE_CHECKING:
    from refimpl.backend.guest import Guest

#: Rounds, and bytes, in one go; after them the others have their turn.
_MOST_ROUNDS = 16
_MOST_BYTES = 1 << 20
_ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_READABLE = select.EPOLLIN | _ENDED
_WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR


class Connection:
    """Moves a connected socket's bytes; ``port`` is our end of the data ring's event channel."""

    def __init__(
        self,
        guest: Guest,
        system_socket: socket.socket,
        page: IndexesPage,
        ends: tuple[Producer, Consumer],
        port: int,
    ) -> None:
        self._guest = guest
        self._loop = guest.loop
        self._socket = system_socket
        self._page = page
        self._in_ring: Producer | PacedProducer = ends[0]
        self._out_ring: Consumer | PacedConsumer = ends[1]
        self._ends = ends
        self._piece = ends[0].piece
        self._is_large = ends[0].size > self._piece
        self._port = port
        self._is_readable = self._is_writable = True  # Not known to be otherwise: the first look tells.
        self._peer_ended = False
        self._in_error = self._out_error = 0
        self._held_error_delays: Iterator[float] = iter(())
        self._held_error_timer: Timer | None = None
        self._is_closed = False
        self._last_unconsumed = 0
        self._drain_until = 0
        self._on_drained: Callable[[], None] | None = None
        #: The violation that ended it, if one did.
        self.violation: PeerViolation | None = None
        self.bytes_in = self.bytes_out = self.notifications_sent = self.events_received = 0

    def start(self) -> None:
        """Let data flow, and look at once: for what TCP brought before, and what ``out`` holds already."""
        self._loop.watch(self._socket.fileno(), SOCKET_EVENTS, self._on_socket)
        self._look()  # E-ACC-PREDATA

    def pace(self, rate: ByteRate | None) -> None:
        """Move no more bytes than the rate allows, from now on; None for as many as can be."""
        self._in_ring, self._out_ring = self._ends
        if rate is not None:
            self._in_ring = PacedProducer(self._ends[0], rate, functools.partial(self._take_turn, self._pump_in))
            self._out_ring = PacedConsumer(self._ends[1], rate, functools.partial(self._take_turn, self._pump_out))

    def _go_on_with_input(self) -> None:
        self._take_turn(self._pump_in)

    def _go_on_with_both(self) -> None:
        self._take_turn(self._pump_out)
        self._take_turn(self._pump_in)

    def _take_turn(self, pump: Callable[[], None]) -> None:
        """Go on with one direction."""
        if self._is_closed:
            return
        try:
            pump()
        except PeerViolation as violation:
            self._stop_for(violation)

    def fill(self) -> tuple[int, int, int]:
        """Return how many bytes ``in`` and ``out`` hold, and the size of either. Raises PeerViolation."""
        in_end, out_end = self._ends
        return in_end.unconsumed, out_end.available, in_end.size

    def on_event(self) -> bool:
        """Look at both rings after an event; returns whether there was anything to do."""
        self.events_received += 1
        return self._look()

    def _look(self) -> bool:
        if self._is_closed:
            return False
        before = self.bytes_in + self.bytes_out
        try:
            self._pump_out()
            self._pump_in()
            if self._held_error_timer is not None and self._in_ring.is_drained:
                self._publish_in_error()
            return before != self.bytes_in + self.bytes_out or self._has_consumed_since()
        except PeerViolation as violation:
            self._stop_for(violation)
            return True

    def _has_consumed_since(self) -> bool:
        """Say whether the frontend took bytes of ``in`` since this was last asked."""
        before, self._last_unconsumed = self._last_unconsumed, self._in_ring.unconsumed
        return before != self._last_unconsumed

    def _on_socket(self, mask: int) -> None:
        if mask & _ENDED:
            self._peer_ended = True
        if mask & _READABLE:
            self._is_readable = True
        if mask & _WRITABLE and not self._is_writable:  # Every event says so; only an edge starts it again.
            self._is_writable = True
            self._guest.share.work(self._go_on_with_both)
        elif mask & _READABLE:
            self._guest.share.work(self._go_on_with_input)

    def _pump_out(self) -> None:
        if not self._is_writable or self._out_error:
            return
        ring, must_notify, until = self._out_ring, False, self.bytes_out + _MOST_BYTES
        for _ in range(_MOST_ROUNDS):
            views = ring.readable()
            if not views:
                break
            try:
                # The guest may change the bytes meanwhile: nobody here looks at them.
                sent = self._socket.send(views[0]) if len(views) == 1 else self._socket.sendmsg(views)  # SEC-B-12
            except BlockingIOError:
                self._is_writable = False
                break
            except OSError as error:
                self._fail_output(to_wire(error.errno))
                break
            self.bytes_out += sent
            must_notify |= ring.consumed(sent)  # IDXPAGE-9, IDXPAGE-13
            if sent < sum(map(len, views)):
                self._is_writable = False  # An edge comes when TCP takes more.
                break
            if self.bytes_out >= until:
                self._guest.share.work_soon(self.resume)  # SEC-B-14
                break
        else:
            self._guest.share.work_soon(self.resume)  # SEC-B-14
        if must_notify | ring.publish():
            self._notify()  # WORKFLOW-12 (E-CONSNOTIFY)
        if self._on_drained is not None:
            self._look_whether_drained()

    def _pump_in(self) -> None:
        if not self._is_readable or self._in_error:
            return  # IDXPAGE-15
        ring, must_notify, until = self._in_ring, False, self.bytes_in + _MOST_BYTES
        for _ in range(_MOST_ROUNDS):
            views = ring.writable()
            if not views:
                self._loop.long_waits += self._is_large
                break  # SEC-B-13: full; the frontend's event starts it again
            if len(views[0]) > self._piece:
                views = (views[0][: self._piece],)
            try:
                one = len(views) == 1
                received = self._socket.recv_into(views[0]) if one else self._socket.recvmsg_into(views)[0]
            except BlockingIOError:  # IDXPAGE-17
                self._is_readable = False
                break
            except OSError as error:
                self._end_input(to_wire(error.errno))
                break
            if received == 0:
                self._end_input(ErrorNumber.ENOTCONN)  # IDXPAGE-16 (E-SIGN, E-FIN-LOSS)
                break
            self.bytes_in += received
            must_notify |= ring.produced(received)  # IDXPAGE-8, IDXPAGE-10, IDXPAGE-18
            if received < sum(map(len, views)) and not self._peer_ended:
                self._is_readable = False  # Nothing left, and an edge comes with more.
                break
            if self.bytes_in >= until:
                self._guest.share.work_soon(self.resume)  # SEC-B-14
                break
        else:
            self._guest.share.work_soon(self.resume)  # SEC-B-14
        if must_notify:
            self._notify()  # WORKFLOW-8

    def _notify(self) -> None:
        self.notifications_sent += 1
        self._loop.has_told_a_guest = True
        self._guest.platform.notify(self._port)

    def resume(self) -> None:
        """Go on where bytes may be left that no event will tell of."""
        self._look()

    def _end_input(self, error: ErrorNumber) -> None:
        """Reading the socket is over. The error waits until the frontend has taken what is before it."""
        self._in_error = error
        if error != ErrorNumber.ENOTCONN and not self._out_error:
            self._fail_output(error)  # E-RST
        self._held_error_delays = held_error_delays()
        self._look_at_held_error()

    def _look_at_held_error(self) -> None:
        """Publish the held-back error once ``in`` is empty, or when it has been held long enough."""
        if self._is_closed:
            return
        try:
            delay = None if self._in_ring.is_drained else next(self._held_error_delays, None)
        except PeerViolation as violation:
            self._stop_for(violation)
            return
        if delay is None:
            self._publish_in_error()
        else:
            self._held_error_timer = self._loop.call_later(delay, self._look_at_held_error)

    def _publish_in_error(self) -> None:
        self._forget_timer()
        self._page.in_error = self._in_error  # IDXPAGE-14, WORKFLOW-15 (E-DRAIN)
        self._notify()  # E-ERRNOTIFY

    def _forget_timer(self) -> None:
        if self._held_error_timer is not None:
            self._held_error_timer.cancel()
            self._held_error_timer = None

    def _fail_output(self, error: ErrorNumber) -> None:
        """Writing the socket failed: said once, for good; what is in ``out`` stays there."""
        self._out_error = error
        self._page.out_error = error  # IDXPAGE-14, IDXPAGE-15, WORKFLOW-15 (E-OUTERR)
        self._notify()  # E-ERRNOTIFY

    def _stop_for(self, violation: PeerViolation) -> None:
        """The frontend's indexes are impossible: stop this socket, keep the device."""
        self.violation = violation
        self._in_error = self._out_error = ErrorNumber.EIO
        self._page.in_error = self._page.out_error = ErrorNumber.EIO  # E-IDXBAD, SEC-B-11
        self._stop()
        network.reset(self._socket)
        self._notify()

    def drain(self, done: Callable[[], None]) -> None:
        """Send what ``out`` holds now, then call ``done()`` once, also when it can't be sent; never if closed first."""
        try:
            self._on_drained = done
            if not self._is_closed:
                self._drain_until = self.bytes_out + self._out_ring.available
                self._pump_out()
        except PeerViolation as violation:
            self._stop_for(violation)
        self._look_whether_drained()

    def _look_whether_drained(self) -> None:
        done = self._on_drained
        if done is not None and (self._is_closed or self._out_error or self.bytes_out >= self._drain_until):
            self._on_drained = None
            done()

    def _stop(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._loop.unwatch(self._socket.fileno())
            self._forget_timer()
            if self._on_drained is not None:
                self._loop.call_soon(self._look_whether_drained)

    def close(self) -> None:
        """Stop moving bytes; the caller closes the socket. An error held back is said now."""
        if self._held_error_timer is not None:
            self._publish_in_error()
        self._on_drained = None
        self._stop()

    def release_views(self) -> None:
        """Let go of every view of the data ring and the indexes page's words."""
        self._in_ring.release()
        self._out_ring.release()
        self._guest.statistics.bytes_in += self.bytes_in
        self._guest.statistics.bytes_out += self.bytes_out
        self._guest.statistics.notifications_sent += self.notifications_sent
