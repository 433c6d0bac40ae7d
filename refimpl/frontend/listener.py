"""A passive socket on the frontend's side: one ACCEPT or one POLL in flight, never both, never two.

A Linux backend answers a second one with EINTR at once, and an accept beside a poll too. What is in flight stays so
when a thread that waited for it gives up: the next one to call finds it, or its answer. Where the options say
``poll_first``, what waits is a POLL, and ACCEPT follows its answer.

Spec: Commands Ring > Accept, Poll.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from refimpl.commands.accept import AcceptRequest
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.message import Command
from refimpl.commands.poll import PollRequest
from refimpl.commands.release import ReleaseRequest
from refimpl.errors import DeviceGone
from refimpl.frontend.calls import Call
from refimpl.frontend.connection import Connection
from refimpl.frontend.waiting import AT_ONCE, timed_out, turn
from refimpl.frontend.wire_errors import wire_error

if TYPE_CHECKING:
    from refimpl.frontend.device import Device

#: How long to leave a listener alone after EINTR, in seconds.
_INTERRUPTED_PAUSE_SECONDS = 0.01
#: How long a call that does not wait gives an ACCEPT after POLL said that there is a connection, in seconds.
_PROMISED_ACCEPT_SECONDS = 1.0


class Listener:
    """The accepts and polls of the listening socket ``id``."""

    def __init__(self, device: Device, id: int) -> None:
        self._device = device
        self._id = id
        # One thread at a time accepts; the other lock guards the fields, and is never held while waiting.
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        #: The ACCEPT or POLL in flight, or answered and not yet acted upon; for an ACCEPT, what it is to become.
        self._asked: Call | None = None
        self._accepting: tuple[int, Connection] | None = None
        self._quiet_until = 0.0
        self._is_closed = False

    def accept(self, deadline: float | None) -> tuple[int, Connection]:
        """Wait for a connection; return its id and its data ring. Raises OSError, TimeoutError, DeviceGone."""
        promised = False
        with turn(self._turn, deadline):
            while True:
                call = self._asked or self._ask(deadline, promised)
                hurry = promised and deadline == AT_ONCE
                until = time.monotonic() + _PROMISED_ACCEPT_SECONDS if hurry else deadline
                if not self._wait_for(call, until):
                    raise timed_out(deadline)  # It stays in flight: the next accept finds it.
                accepted = self._take_answer(call)
                if accepted is not None:
                    return accepted
                if call.ret == ErrorNumber.EINTR:
                    self._pause(deadline)
                promised = call.command is Command.POLL and call.ret == 0

    def look(self) -> bool:
        """Say whether :meth:`accept` would not wait, as far as is known; where nothing is, ask. Raises DeviceGone."""
        calls = self._device.calls
        with self._lock:
            if self._asked is None and not self._is_closed and time.monotonic() >= self._quiet_until:
                self._asked = calls.try_start(lambda req_id: PollRequest.make(req_id, self._id))
            call = self._asked
        if self._is_closed:
            return True
        if call is None or not calls.look(call):  # POLL-3, POLL-1
            return False
        if call.ret != ErrorNumber.EINTR:
            return True  # A connection, or an error for accept to raise.
        with suppress(OSError):
            self._take_answer(call)
        return False

    def close(self) -> None:
        """End the accepts that wait. The listener's RELEASE follows, then :meth:`give_back`."""
        with self._lock:
            self._is_closed = True
        self._device.events.wake_all()

    def give_back(self) -> None:
        """Give back what an ACCEPT in flight had. RELEASE was answered: so is the ACCEPT, if it ever will be."""
        with self._lock:
            call, accepting = self._asked, self._accepting
            self._asked = self._accepting = None
        if accepting is None:
            return
        id_new, connection = accepting
        if call is not None and call.ret == 0:  # Accepted, and nobody came for it.
            with suppress(DeviceGone):
                self._device.calls.ask(lambda req_id: ReleaseRequest.make(req_id, id_new))  # RELEASE-1
        connection.take_down(ConnectionAbortedError("the listener was closed"))  # (E-ACC-REL)

    def _ask(self, deadline: float | None, promised: bool) -> Call:
        """Send what comes next, ACCEPT or the POLL before it, unless something is in flight by now; return what is."""
        if promised or not self._device.options.poll_first:
            return self._send_accept(deadline)
        return self._send(
            lambda: self._device.calls.try_start(lambda req_id: PollRequest.make(req_id, self._id)), deadline
        )

    def _send_accept(self, deadline: float | None) -> Call:
        connection = Connection(self._device)  # ACCEPT-3
        id_new = self._device.new_id()  # ACCEPT-2

        def start() -> Call | None:
            call = self._device.calls.try_start(
                lambda req_id: AcceptRequest.make(req_id, self._id, id_new, connection.ref, connection.port)
            )
            if call is not None:
                self._accepting = id_new, connection
            return call

        try:
            return self._send(start, deadline)
        finally:
            if self._accepting != (id_new, connection):
                connection.take_down(ConnectionAbortedError("it is not needed"))

    def _send(self, start: Callable[[], Call | None], deadline: float | None) -> Call:
        """Send by ``start`` once there is a slot, unless something is in flight by now; return what is."""
        found: list[Call] = []

        def look() -> bool:
            with self._lock:
                self._check_open()
                if self._asked is None:  # (E-ACC-CONC, E-POLL-ACC)
                    self._asked = start()
                if self._asked is not None:
                    found.append(self._asked)
            return bool(found)

        if not self._device.events.wait_until((self._device.calls,), look, deadline):
            raise timed_out(deadline)
        return found[0]

    def _wait_for(self, call: Call, deadline: float | None) -> bool:
        calls = self._device.calls
        return self._device.events.wait_until((calls,), lambda: self._is_closed or calls.look(call), deadline)

    def _take_answer(self, call: Call) -> tuple[int, Connection] | None:
        """Act on an answer: return the new connection, or None where another request has to follow. Raises OSError."""
        with self._lock:
            self._check_open()
            accepting, self._accepting = self._accepting, None
            self._asked = None
            if call.ret == ErrorNumber.EINTR:
                self._quiet_until = time.monotonic() + _INTERRUPTED_PAUSE_SECONDS
        if call.command is Command.ACCEPT and call.ret == 0:  # (E-ACC-RET)
            return accepting
        if accepting is not None:
            accepting[1].take_down(ConnectionAbortedError("the accept failed"))  # (E-ACC-FAIL)
        if call.ret is not None and call.ret not in (0, ErrorNumber.EINTR):
            raise wire_error(call.ret, "accept")  # ACCEPT-15, POLL-6
        return None

    def _pause(self, deadline: float | None) -> None:
        """Wait a moment before asking again (E-ACC-CONC)."""
        until = self._quiet_until if deadline is None else min(deadline, self._quiet_until)
        self._device.events.wait_until((self._device.calls,), lambda: self._is_closed, until)

    def _check_open(self) -> None:
        if self._is_closed:
            raise OSError(errno.EBADF, "the socket is closed")
