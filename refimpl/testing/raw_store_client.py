"""A xenstore client with no manners: it sends any bytes, and shows all that comes back, in the order it came.

For tests of xenstore servers; programs use :mod:`refimpl.store`.
"""

from __future__ import annotations

import os
import socket
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from refimpl.store import wire
from refimpl.store.wire import Operation


class Message(NamedTuple):
    """One message of a server: a reply, an error or a watch event."""

    type: int
    req_id: int
    tx_id: int
    payload: bytes

    @property
    def error(self) -> str | None:
        """The error's name, or None where this is no error."""
        return self.payload.rstrip(b"\0").decode() if self.type == Operation.ERROR else None


class Stream(Protocol):
    """What of a connected socket is needed to speak to a server."""

    def sendall(self, data: bytes, /) -> None:
        """Send all the bytes."""

    def recv(self, size: int, /) -> bytes:
        """Return at least one byte and at most ``size``; none means the server hung up."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Let the next calls raise TimeoutError after so long."""

    def close(self) -> None:
        """Hang up."""


class RawStoreClient:
    """Speaks to one xenstore server over one connected stream. Not for several threads at once.

    ``events`` holds the (path, token) of the watch events that came while a reply was waited for.
    """

    def __init__(self, stream: Stream, timeout: float = 20.0) -> None:
        self.stream = stream
        self.events: list[tuple[bytes, bytes]] = []
        self._last_req_id = 0
        stream.settimeout(timeout)

    @classmethod
    def connect(cls, path: str | os.PathLike[str]) -> Self:
        """Connect to the server's unix socket."""
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(os.fspath(path))
        except OSError:
            stream.close()
            raise
        return cls(stream)

    def send(self, operation: int, payload: bytes = b"", tx_id: int = 0) -> int:
        """Send a request without waiting for its reply; return the ``req_id`` it carries."""
        self._last_req_id += 1
        self.stream.sendall(wire.packet(operation, payload, self._last_req_id, tx_id))
        return self._last_req_id

    def receive(self) -> Message:
        """Return the next message, whatever it is. Raises EOFError if the server hung up, TimeoutError."""
        kind, req_id, tx_id, length = wire.HEADER.unpack(self._receive_exactly(wire.HEADER.size))
        return Message(kind, req_id, tx_id, self._receive_exactly(length))

    def _receive_exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            try:
                piece = self.stream.recv(size - len(received))
            except ConnectionError:
                piece = b""
            if not piece:
                raise EOFError(f"the server hung up, {size - len(received)} bytes short")
            received += piece
        return received

    def request(self, operation: int, payload: bytes = b"", tx_id: int = 0) -> Message:
        """Send a request and return its reply; watch events that come before it are kept in ``events``."""
        req_id = self.send(operation, payload, tx_id)
        while (message := self.receive()).type == Operation.WATCH_EVENT:
            path, token = wire.split_strings(message.payload)
            self.events.append((path, token))
        if message.req_id != req_id:
            raise AssertionError(f"asked {req_id}, answered {message}")
        return message

    def take_events(self) -> list[tuple[bytes, bytes]]:
        """Return the (path, token) of all events that the server has queued for us so far, and forget them.

        Needs no waiting: the server's reply to a question of ours stands behind all of them.
        """
        self.request(Operation.GET_DOMAIN_PATH, b"0\0")
        events, self.events = self.events, []
        return events

    def begin(self) -> int:
        """Start a transaction and return its id."""
        return int(self.request(Operation.TRANSACTION_START, b"\0").payload.rstrip(b"\0"))

    def end(self, tx_id: int, *, commit: bool = True) -> Message:
        """End the transaction and return the server's reply."""
        return self.request(Operation.TRANSACTION_END, b"T\0" if commit else b"F\0", tx_id)

    def close(self) -> None:
        """Hang up."""
        self.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
