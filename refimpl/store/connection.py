"""pyxs's connections, made non-blocking: what cannot be sent or read now is said so, and nothing waits."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import Any, Protocol

from pyxs._internal import Packet
from pyxs.connection import UnixSocketConnection, XenBusConnection

from refimpl.errors import StoreLost
from refimpl.store.wire import HEADER, PAYLOAD_MAX, Operation

#: The longest payload taken from a server: oxenstored sends a whole long directory as one packet.
LARGEST_ANSWER = 1 << 20

_CHUNK = 1 << 16


def make_packet(op: int, payload: bytes, transaction_id: int = 0) -> Any:
    """Return a packet of pyxs's, of a type pyxs need not know; the router gives it its request id."""
    return Packet._make((op, 0, transaction_id, len(payload), payload))  # Packet() takes only what pyxs knows.


class _Transport(Protocol):
    """Where bytes go; both calls raise BlockingIOError when they would wait."""

    def fileno(self) -> int: ...
    def read(self, size: int) -> bytes: ...
    def write(self, data: bytes) -> int: ...
    def close(self) -> None: ...


class _SocketTransport:
    def __init__(self, path: str, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A Python time-out would make connect fail at once while the server's backlog is full; the kernel's waits.
            seconds, fraction = divmod(max(timeout, 0.001), 1)
            limit = struct.pack("@ll", int(seconds), int(fraction * 1_000_000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.connect(path)
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise
        self.fileno, self.read, self.write = self._socket.fileno, self._socket.recv, self._socket.send

    def close(self) -> None:
        with suppress(OSError):  # A forked child may hold the socket too: end it for both.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class _DeviceTransport:
    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        self._unsent = 0
        self.unanswered = False

    def fileno(self) -> int:
        return self._descriptor

    def read(self, size: int) -> bytes:
        return os.read(self._descriptor, size)

    def write(self, data: bytes) -> int:
        """Send one request, or what goes of it; the next has to wait for its answer.

        Linux passes a request on from the very buffer that the next write fills: two on their way spoil each other.
        """
        if not self._unsent:
            if self.unanswered:
                raise BlockingIOError
            self._unsent = HEADER.size + HEADER.unpack(data)[3]
            self.unanswered = True
        written = os.write(self._descriptor, data[: self._unsent])
        self._unsent -= written
        return written

    def close(self) -> None:
        os.close(self._descriptor)


class _PacketStream:
    """Cut the stream of bytes into packets; a length is believed only as far as its bytes have come."""

    transport: _Transport
    #: The longest payload of a request, in bytes.
    largest_request = PAYLOAD_MAX

    def __init__(self, path: str | None) -> None:
        super().__init__(path)  # type: ignore[call-arg]  # pyxs's connection is next in line
        self._received = bytearray()

    def write(self, data: bytes | bytearray) -> int:
        """Send what goes without waiting; return how many bytes that was."""
        with suppress(BlockingIOError):
            return self.transport.write(bytes(data))
        return 0

    def receive(self) -> list[Any]:
        """Return the packets that are whole by now. Raises StoreLost for an end or nonsense, OSError."""
        try:
            chunk = self.transport.read(_CHUNK)
        except BlockingIOError:
            return []
        if not chunk:
            raise StoreLost("ECONNRESET", "", "the server closed the connection")
        self._received += chunk
        return self._cut()

    def _cut(self) -> list[Any]:
        packets, start, end = [], 0, len(self._received)
        while end - start >= HEADER.size:
            kind, request_id, transaction_id, size = HEADER.unpack(self._received, start)
            if size > LARGEST_ANSWER:
                raise StoreLost("EPROTO", "", f"the server announced an answer of {size} bytes")
            body = start + HEADER.size
            if end - body < size:
                break
            payload = bytes(self._received[body : body + size])
            packets.append(Packet._make((kind, request_id, transaction_id, size, payload)))
            start = body + size
        del self._received[:start]
        return packets


class SocketConnection(_PacketStream, UnixSocketConnection):  # type: ignore[misc]
    """A connection to xenstored's unix socket; None is the path libxenstore would take."""

    def __init__(self, path: str | None, timeout: float) -> None:
        super().__init__(path)
        self._timeout = timeout

    def create_transport(self) -> _Transport:
        """Open the socket, within the time-out. Raises OSError."""
        return _SocketTransport(self.path, self._timeout)


class DeviceConnection(_PacketStream, XenBusConnection):  # type: ignore[misc]
    """A connection through Linux's ``/dev/xen/xenbus``, where header and payload share the 4096 bytes.

    It is never ready to be written to in poll's sense, and takes one request at a time.
    """

    transport: _DeviceTransport
    largest_request = PAYLOAD_MAX - HEADER.size

    def create_transport(self) -> _DeviceTransport:
        """Open the device. Raises OSError."""
        return _DeviceTransport(self.path)

    def receive(self) -> list[Any]:
        """Return the packets that are whole by now; an answer among them lets the next request go."""
        packets = super().receive()
        if any(packet.op != Operation.WATCH_EVENT for packet in packets):
            self.transport.unanswered = False
        return packets
