"""An active socket before it is connected: at most one CONNECT in flight.

A CONNECT cannot be taken back. One that a thread gave up waiting for goes on; the next call finds it, or its answer.

Spec: Commands Ring > Connect.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from refimpl.commands.address_format import InternetAddress
from refimpl.commands.connect import ConnectRequest
from refimpl.frontend.calls import Call
from refimpl.frontend.connection import Connection
from refimpl.frontend.waiting import AT_ONCE, timed_out, turn
from refimpl.frontend.wire_errors import wire_error

if TYPE_CHECKING:
    from refimpl.frontend.device import Device


class _Attempt(NamedTuple):
    """A CONNECT in flight, or answered and not yet acted upon, and the data ring it is to bring to life."""

    call: Call
    connection: Connection


class Connector:
    """The connects of the socket ``id``."""

    def __init__(self, device: Device, id: int) -> None:
        self._device = device
        self._id = id
        # One thread at a time connects; the other lock guards the fields, and is never held while waiting.
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._attempt: _Attempt | None = None
        self._is_closed = False
        #: The connection, once there is one.
        self.connection: Connection | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether there is a CONNECT to wait for."""
        return self._attempt is not None

    def connect(self, address: InternetAddress, deadline: float | None) -> None:
        """Wait until the socket is connected. Raises OSError, TimeoutError, DeviceGone."""
        with turn(self._turn, deadline):
            self.settle()
            if self.connection is not None:
                raise OSError(errno.EISCONN, "the socket is connected")
            call = (self._attempt or self._send_connect(address, deadline)).call
            if not self._wait(lambda: self._is_closed or self._device.calls.look(call), deadline):
                if deadline == AT_ONCE:
                    raise BlockingIOError(errno.EINPROGRESS, "the connect is under way")
                raise timed_out(deadline)
            self.settle()

    def look(self) -> bool:
        """Say whether no CONNECT is under way any more. Raises DeviceGone."""
        attempt = self._attempt
        return attempt is None or self._device.calls.look(attempt.call)

    def settle(self) -> None:
        """Act on CONNECT's answer, if there is a new one. Raises what it says, and EBADF once the socket is closed."""
        with self._lock:
            self._check_open()
            attempt = self._attempt
            if attempt is None or attempt.call.ret is None:
                return
            self._attempt = None
            ret = attempt.call.ret
            if ret == 0:
                self.connection = attempt.connection  # CONNECT-10, IDX-1
                return
        attempt.connection.take_down(ConnectionAbortedError("the connect failed"))  # (E-CONN-RETRY)
        raise wire_error(ret, "connect")  # CONNECT-17

    def close(self) -> None:
        """End the connects that wait. The socket's RELEASE follows, then :meth:`give_back`."""
        with self._lock:
            self._is_closed = True
        self._device.events.wake_all()

    def give_back(self) -> None:
        """Give back what a CONNECT in flight had. RELEASE was answered: so is the CONNECT, if it ever will be."""
        if self._attempt is not None:
            self._attempt.connection.take_down(ConnectionAbortedError("the socket was closed"))  # (E-CONN-SYNC)

    def _send_connect(self, address: InternetAddress, deadline: float | None) -> _Attempt:
        """Set a data ring up and send CONNECT once there is a slot for it."""
        connection = Connection(self._device)  # CONNECT-2
        sent: list[_Attempt] = []

        def make(req_id: int) -> ConnectRequest:
            return ConnectRequest.make(req_id, self._id, address, connection.ref, connection.port)

        def look() -> bool:
            with self._lock:
                self._check_open()
                call = self._device.calls.try_start(make)
                if call is not None:
                    self._attempt = _Attempt(call, connection)
                    sent.append(self._attempt)
            return bool(sent)

        try:
            if not self._wait(look, deadline):
                raise timed_out(deadline)
            return sent[0]
        finally:
            if not sent:
                connection.take_down(ConnectionAbortedError("it was not needed"))

    def _wait(self, look: Callable[[], bool], deadline: float | None) -> bool:
        return self._device.events.wait_until((self._device.calls,), look, deadline)

    def _check_open(self) -> None:
        if self._is_closed:
            raise OSError(errno.EBADF, "the socket is closed")
