"""pyxs's router, made dependable: the one thread that reads a connection and hands each packet on.

pyxs 0.4.1 waits for ever when that thread dies, and a lost server, an unknown packet or a descriptor above 1023 kills
it. Here every request has a deadline, and whatever goes wrong ends in one :class:`~refimpl.errors.StoreLost` for
everybody who waits and everybody who comes later: there is no reconnecting, since the server has dropped the watches
and transactions of the connection with it.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from errno import errorcode
from typing import Any

from pyxs.client import Router as PyxsRouter
from pyxs.client import RVar

from refimpl.errors import ForkedDomain, Misuse, StoreLost
from refimpl.store import wire
from refimpl.store.connection import DeviceConnection, SocketConnection, make_packet
from refimpl.store.watches import RegisteredWatch, Watches
from refimpl.store.wire import Operation, split_strings, strings

_LAST_REQUEST_ID = 2**32 - 1
_log = logging.getLogger(__name__)


class Reply(RVar):  # type: ignore[misc]
    """Where a request's answer arrives: a packet, or the StoreLost that says why there is none."""

    condition: threading.Condition
    target: Any

    def __init__(self, op: int) -> None:
        super().__init__()
        self.op = op

    def wait(self, timeout: float) -> Any:
        """Return the answer, or None after ``timeout`` seconds."""
        with self.condition:
            self.condition.wait_for(lambda: self.target is not None, timeout)
            return self.target

    def set(self, target: Any) -> None:
        """Take the answer; only the first one counts."""
        with self.condition:
            if self.target is None:
                self.target = target
                self.condition.notify_all()


class Router(PyxsRouter):  # type: ignore[misc]
    """Multiplex one connection. ``timeout`` is in seconds, for each request from the first byte to the answer."""

    def __init__(self, connection: SocketConnection | DeviceConnection, timeout: float) -> None:
        super().__init__(connection)
        self.rvars: dict[int | None, Reply] = {}
        self.thread: threading.Thread
        self.thread.name = "refimpl-store"
        self.timeout = timeout
        self.watches = Watches()
        self._process = os.getpid()
        self._state = threading.Lock()  # Guards all below and rvars; taken inside send_lock, never around it.
        self._reason: StoreLost | None = None
        self._is_closed = False
        self._lost_callbacks: list[Callable[[], None]] = []
        self._last_request_id = 0
        self._outbox = bytearray()  # Guarded by send_lock.
        self.r_terminator.setblocking(False)
        self.w_terminator.setblocking(False)

    # For callers, from any thread.

    def check_caller(self) -> None:
        """Refuse a forked child (ForkedDomain) and a callback of ours, which would wait for itself (Misuse)."""
        self.check_process()
        if self._is_own_thread():
            raise Misuse("a watch's callback called the store: let it wake the thread that will")

    def check_process(self) -> None:
        """Refuse a forked child: the connection is its parent's."""
        if os.getpid() != self._process:
            raise ForkedDomain("this xenstore connection belongs to the process that forked")

    def start(self) -> None:
        """Connect and start the thread. Raises StoreLost."""
        try:
            self.connection.connect()
            self.thread.start()
        except OSError as error:
            self._close_descriptors()
            raise StoreLost(_name_of(error), self.connection.path, f"no xenstore there: {error}") from None
        except BaseException:
            self._close_descriptors()
            raise

    def request(self, packet: Any) -> Any:
        """Send a packet and return its answer. Raises StoreLost, at the latest when the time-out is over."""
        self.check_caller()
        return self._answer_to(self.send(packet))

    def send(self, packet: Any) -> Reply:
        """Send a packet under a fresh request id, or as much of it as goes now; the thread sends the rest."""
        reply = Reply(packet.op)
        if not self.send_lock.acquire(timeout=self.timeout):
            self.lose(StoreLost("ETIMEDOUT", "", f"the server took nothing in {self.timeout:g} s"))
            reply.set(self._reason)
            return reply
        try:
            with self._state:
                if self._reason is not None:
                    reply.set(self._reason)
                    return reply
                request_id = self._next_request_id()
                self.rvars[request_id] = reply
            self._send_bytes(wire.packet(packet.op, packet.payload, request_id, packet.tx_id))
        except BaseException:  # An interrupt: what is sent next could be taken for the rest of this packet.
            self.lose(StoreLost("EINTR", "", "interrupted in the middle of a request"))
            raise
        finally:
            self.send_lock.release()
        return reply

    def lose(self, reason: StoreLost, *, is_closed: bool = False) -> None:
        """End the connection, for everybody; only the first reason counts."""
        with self._state:
            if self._reason is not None:
                return
            self._reason, self._is_closed = reason, is_closed
            unanswered = list(self.rvars.values())
            self.rvars.clear()
            self._wake()
        for reply in unanswered:
            reply.set(reason)

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the connection is lost, now if it is; never for a close of our own."""
        with self._state:
            if self._reason is None:
                self._lost_callbacks.append(callback)
                return
            if self._is_closed:
                return
        callback()

    def unregister(self, watch: RegisteredWatch) -> None:
        """Forget a watch at once, then tell the server; see :meth:`RegisteredWatch.cancel`."""
        self.check_process()
        was_there = self.watches.remove(watch)
        if was_there:
            reply = self.send(make_packet(Operation.UNWATCH, strings(watch.path.encode(), watch.token)))
        if self._is_own_thread():
            return  # It cannot wait for what it has to read itself; the answer is dropped when it comes.
        if was_there:
            with suppress(StoreLost):
                self._answer_to(reply)
        self.watches.wait_told(watch, self.timeout)

    def terminate(self) -> None:
        """End the connection and, unless called from the thread itself, wait until it has ended."""
        self.check_process()
        self.lose(StoreLost("ESHUTDOWN", "", "the connection was closed"), is_closed=True)
        if not self._is_own_thread():
            self.thread.join(self.timeout)

    # The thread.

    def __call__(self) -> None:
        """Read and hand on until the connection is lost or closed."""
        try:
            self._serve()
        except StoreLost as lost:
            self.lose(lost)
        except OSError as error:
            self.lose(StoreLost(_name_of(error), "", str(error)))
        except BaseException as error:  # Whatever it is, nobody may be left waiting for this thread.
            self.lose(StoreLost("EIO", "", f"the reading thread failed: {error!r}"))
            _log.exception("the thread of a xenstore connection failed")
        finally:
            self._close_descriptors()
            self._tell_lost()

    def _serve(self) -> None:
        poll = select.poll()  # Not select: it refuses descriptors above 1023.
        poll.register(self.r_terminator, select.POLLIN)
        descriptor = self.connection.fileno()
        while self._reason is None:
            if self._outbox:  # Also with no POLLOUT: the device gives none, its answers make room.
                self._flush()
            interest = select.POLLIN | (select.POLLOUT if self._outbox else 0)
            poll.register(descriptor, interest)
            for ready, events in poll.poll():
                if ready != descriptor:
                    self._drain_wakes()
                    continue
                if events & ~select.POLLOUT:
                    for packet in self.connection.receive():
                        self._hand_on(packet)
            self.watches.tell()

    def _hand_on(self, packet: Any) -> None:
        if packet.op == Operation.WATCH_EVENT:  # Its ids mean nothing: Linux leaves them uninitialised.
            fields = split_strings(packet.payload)
            if len(fields) < 2:  # Newer servers may add more.
                raise StoreLost("EPROTO", "", f"a watch event without path and token: {packet.payload[:80]!r}")
            self.watches.note(fields[0].decode("ascii", "backslashreplace"), fields[1])
            return
        with self._state:
            reply = self._take_reply(packet)
        if reply is None and self._reason is None:
            raise StoreLost("EPROTO", "", f"an answer to no request of ours: type {packet.op}, id {packet.rq_id}")
        if reply is not None:
            reply.set(packet)

    def _take_reply(self, packet: Any) -> Reply | None:
        request_id: int | None = packet.rq_id
        if request_id == 0 and packet.op in (Operation.WATCH, Operation.UNWATCH):
            # Old kernels answer these themselves, in order and with id 0, which we never use.
            request_id = next((waits for waits, reply in self.rvars.items() if reply.op == packet.op), None)
        return self.rvars.pop(request_id, None)

    # Inside.

    def _answer_to(self, reply: Reply) -> Any:
        answer = reply.wait(self.timeout)
        if answer is None:
            self.lose(StoreLost("ETIMEDOUT", "", f"no answer from the server in {self.timeout:g} s"))
            answer = reply.wait(0)
        if isinstance(answer, StoreLost):
            raise answer
        return answer

    def _is_own_thread(self) -> bool:
        return threading.current_thread() is self.thread

    def _next_request_id(self) -> int:
        while True:
            self._last_request_id = self._last_request_id % _LAST_REQUEST_ID + 1
            if self._last_request_id not in self.rvars:
                return self._last_request_id

    def _send_bytes(self, data: bytes) -> None:
        if not self._outbox:
            try:
                data = data[self.connection.write(data) :]
            except OSError as error:
                self.lose(StoreLost(_name_of(error), "", str(error)))
                return
        if data:
            self._outbox += data
            with self._state:
                self._wake()

    def _flush(self) -> None:
        with self.send_lock:
            del self._outbox[: self.connection.write(self._outbox)]

    def _wake(self) -> None:
        with suppress(OSError):  # Full: a wake is on its way. Closed: nobody is left to wake.
            self.w_terminator.send(b"w")

    def _drain_wakes(self) -> None:
        with suppress(BlockingIOError):
            self.r_terminator.recv(4096)

    def _close_descriptors(self) -> None:
        # Under the locks, so that nobody writes to a number that already means another file.
        with self.send_lock, self._state:
            self._outbox.clear()
            self.connection.close()
            self.r_terminator.close()
            self.w_terminator.close()

    def _tell_lost(self) -> None:
        with self._state:
            callbacks, self._lost_callbacks = self._lost_callbacks, []
        for callback in () if self._is_closed else callbacks:
            try:
                callback()
            except BaseException:
                _log.exception("a callback for the loss of the xenstore connection failed")


def _name_of(error: OSError) -> str:
    if isinstance(error, BlockingIOError):
        return "ETIMEDOUT"  # The kernel's word for a connect that outlasted its limit.
    return errorcode.get(error.errno or 0, "EIO")
