"""A guest's socket, used as the socket module's: the calls go to the backend, the bytes through the data ring.

What the protocol has not, it has not: no getsockname and getpeername, no options, no datagrams, no shutdown of one
direction. The other end can still close its direction first: data goes on both ways until it has all arrived.

Spec: Commands Ring (the frontend's part); Indexes Page and Data ring.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from refimpl.commands.address_format import InternetAddress
from refimpl.commands.bind import BindRequest
from refimpl.commands.listen import ListenRequest
from refimpl.commands.release import ReleaseRequest
from refimpl.commands.socket import SocketRequest
from refimpl.errors import DeviceGone
from refimpl.frontend.calls import MakeRequest
from refimpl.frontend.connection import Connection
from refimpl.frontend.connector import Connector
from refimpl.frontend.listener import Listener
from refimpl.frontend.names import Address, resolve
from refimpl.frontend.waiting import Source, deadline_after
from refimpl.frontend.wire_errors import wire_error

if TYPE_CHECKING:
    from refimpl.frontend.device import Device

DEFAULT_BACKLOG = 128
#: How long close waits, at most, until the backend has taken what was sent, in seconds.
LINGER_SECONDS = 10.0


class Socket:
    """An IPv4 stream socket that lives in the backend's domain; from :meth:`Frontend.socket` and :meth:`accept`.

    Any number of threads may use it. Errors are those of the socket module (``ConnectionRefusedError``...), each with
    the raw number from the wire in ``error_number``; a time-out is TimeoutError, or BlockingIOError where it is 0; a
    device that is gone is :class:`~refimpl.errors.DeviceGone`, once all data received before was delivered.
    """

    def __init__(self, device: Device, id: int, connection: Connection | None = None) -> None:
        self._device = device
        #: The protocol's name for the socket.
        self.id = id
        self._timeout: float | None = None
        self._lock = threading.Lock()
        self._close_turn = threading.Lock()
        self._connector = Connector(device, id)
        self._connection = connection
        self._listener: Listener | None = None
        self._is_closed = False
        device.sockets.add(self)

    @classmethod
    def create(cls, device: Device) -> Self:
        """Make a socket in the backend: SOCKET."""
        created = cls(device, device.new_id())
        try:
            created._ask("socket", lambda req_id: SocketRequest.make(req_id, created.id))  # SOCKET-2
        except BaseException:
            device.sockets.discard(created)
            raise
        return created

    # Time-outs.

    def settimeout(self, seconds: float | None) -> None:
        """Bound connect, accept, send and recv: None waits for ever, 0 not at all."""
        if seconds is not None and seconds < 0:
            raise ValueError(f"a time-out of {seconds} seconds")
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        """Return what :meth:`settimeout` set, in seconds."""
        return self._timeout

    def setblocking(self, blocking: bool) -> None:
        """Set no time-out, or one of 0."""
        self.settimeout(None if blocking else 0.0)

    # The calls.

    def connect(self, address: Address) -> None:
        """Connect to ``(host, port number)``; the host's name is resolved here, to its first IPv4 address.

        The protocol cannot take a CONNECT back: one that timed out here is still under way, and a further call waits
        for it, whatever its address. After a failed one connect may be tried again.
        """
        self.connect_to(resolve(address)[0])

    def connect_to(self, target: InternetAddress) -> None:
        """As :meth:`connect`, with nothing to resolve."""
        self._check_open()
        if self._connection is not None:
            raise OSError(errno.EISCONN, "the socket is connected")
        self._connector.connect(target, deadline_after(self._timeout))
        self._connection = self._connector.connection

    def bind(self, address: Address) -> None:
        """Give the socket ``(host, port number)``, an address of the backend's domain; host ``""`` is any of them."""
        target = resolve(address)[0]
        self._ask("bind", lambda req_id: BindRequest.make(req_id, self.id, target))  # BIND-2

    def listen(self, backlog: int = DEFAULT_BACKLOG) -> None:
        """Listen; ``backlog`` connections may wait to be accepted. Needs :meth:`bind` before it."""
        backlog = max(0, backlog)
        self._ask("listen", lambda req_id: ListenRequest.make(req_id, self.id, backlog))  # BIND-2
        with self._lock:
            if self._listener is None:
                self._listener = Listener(self._device, self.id)

    def accept(self) -> tuple[Socket, None]:
        """Wait for a connection; return its socket, and None: the protocol does not say whose it is."""
        self._check_open()
        if self._listener is None:
            raise OSError(errno.EINVAL, "the socket does not listen")  # BIND-2
        id, connection = self._listener.accept(deadline_after(self._timeout))
        return Socket(self._device, id, connection), None

    # Data.

    def send(self, data: Any) -> int:
        """Send some of ``data`` (bytes, or anything with a contiguous buffer), at least a byte; return how many."""
        connection, deadline = self._active(), deadline_after(self._timeout)
        if type(data) is bytes:
            return connection.send(data, deadline) if data else 0
        with memoryview(data) as view:
            return _with_octets(view, lambda octets: connection.send(octets, deadline))

    def sendall(self, data: Any) -> None:
        """Send all of ``data``; the time-out is for the whole. How much went is not known if it raises."""
        connection, deadline = self._active(), deadline_after(self._timeout)
        if type(data) is bytes:
            sent = connection.send(data, deadline) if data else 0
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        with memoryview(data) as view:
            _with_octets(view, lambda octets: connection.sendall(octets, deadline))

    def recv(self, size: int) -> bytes:
        """Return 1 to ``size`` bytes as soon as there are any; ``b""`` is the end of the stream."""
        connection = self._active()
        if size <= 0:
            if size < 0:
                raise ValueError("a negative number of bytes to receive")
            return b""
        return connection.recv(size, deadline_after(self._timeout))

    def recv_into(self, buffer: Any, nbytes: int = 0) -> int:
        """Receive into a contiguous buffer, at most ``nbytes`` (0: as many as fit); return how many, 0 at the end."""
        connection, deadline = self._active(), deadline_after(self._timeout)
        if type(buffer) is memoryview and not nbytes and _is_octets(buffer):
            return connection.recv_into(buffer, deadline)
        with memoryview(buffer) as view:
            if not 0 <= nbytes <= view.nbytes:
                raise ValueError(f"{nbytes} bytes into a buffer of {view.nbytes}")
            if view.readonly:
                raise TypeError("the buffer to receive into is read-only")
            return _with_octets(view, lambda octets: connection.recv_into(octets, deadline), nbytes)

    def _active(self) -> Connection:
        """Return the connection. Raises OSError(ENOTCONN), or what ended a connect meanwhile."""
        connection = self._connection
        if connection is None or self._is_closed:
            self._check_open()
            self._connector.settle()
            connection = self._connection = self._connector.connection
        if connection is None:
            raise OSError(errno.ENOTCONN, "the socket is not connected")
        return connection

    # Waiting for several: see selecting.

    @property
    def device(self) -> Device:
        """What it shares with the other sockets of its frontend."""
        return self._device

    @property
    def source(self) -> Source | None:
        """Where events for this socket come from, None where there is nothing to wait for."""
        if self._is_closed:
            return None
        if self._connection is not None:
            return self._connection
        waits = self._listener is not None or self._connector.is_under_way
        return self._device.calls if waits else None

    def is_readable(self) -> bool:
        """Say whether recv or accept would not wait: data, an end, an error, or a pending connection.

        A listener that does not know asks the backend, and says so later.
        """
        return self._is_ready(Connection.is_readable)

    def is_writable(self) -> bool:
        """Say whether send would not wait, or whether a connect has ended: call connect again to learn how."""
        return self._is_ready(Connection.is_writable)

    def _is_ready(self, look: Callable[[Connection], bool]) -> bool:
        if self._is_closed:
            return True
        try:
            if self._connection is not None:
                return look(self._connection)
            return self._listener.look() if self._listener is not None else self._connector.look()
        except OSError:
            return True  # The call that follows says what it is.

    # The end.

    def close(self, linger: float = LINGER_SECONDS) -> None:
        """Close the socket; what was sent before still arrives, if the backend takes it within ``linger`` seconds.

        A second call only waits for the first. Never raises for what the backend does: if the device is gone, so is the
        socket.
        """
        with self._close_turn:
            if not self._is_closed:
                self._is_closed = True
                self._release(time.monotonic() + linger)

    def _release(self, deadline: float) -> None:
        waiting = self._listener or self._connector
        waiting.close()
        connection = self._connection or self._connector.connection
        if connection is not None:
            connection.drain(deadline)  # (E-SENDCLOSE)
            connection.publish()
        reuse = connection is not None and connection.promise_to_reuse()
        is_released = False
        with suppress(DeviceGone):
            ret = self._device.calls.ask(
                lambda req_id: ReleaseRequest.make(req_id, self.id, reuse),
                excuse=connection.takes_output if connection is not None else None,
            )  # RELEASE-1, SEC-F-10
            is_released = ret == 0
        if connection is not None:
            closed = OSError(errno.EBADF, "the socket is closed")
            connection.take_down(closed, keep_ring=reuse and is_released)  # RELEASE-5
        waiting.give_back()
        self._device.sockets.discard(self)
        self._device.events.wake_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._is_closed:
            state = "closed"
        elif self._listener is not None:
            state = "listening"
        else:
            state = "connected" if self._connection is not None else "not connected"
        return f"<refimpl.frontend.Socket id={self.id:#x} {state}>"

    def _ask(self, doing: str, make: MakeRequest) -> None:
        """Send a command that needs no waiting. Raises what its answer says."""
        self._check_open()
        ret = self._device.calls.ask(make)
        if ret:
            raise wire_error(ret, doing)

    def _check_open(self) -> None:
        if self._is_closed:
            raise OSError(errno.EBADF, "the socket is closed")


def _is_octets(view: memoryview) -> bool:
    """Say whether bytes can go into the view as it is, and there is room for any."""
    return view.format == "B" and view.ndim == 1 and view.c_contiguous and not view.readonly and view.nbytes > 0


def _with_octets(view: memoryview, action: Callable[[memoryview], int], count: int = 0) -> int:
    """Run ``action`` on the first ``count`` bytes of a contiguous buffer, 0 for all, as a view of bytes."""
    if not view.nbytes:
        return 0
    with view.cast("B") as octets, octets[: count or len(octets)] as part:
        return action(part)
