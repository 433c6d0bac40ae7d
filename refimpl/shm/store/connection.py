"""One client's socket: bytes to requests, and replies to bytes.

Nothing here blocks. A client is read only while it takes what it is sent, and only a few of its requests are served a
turn, so that none can keep the others waiting.
"""

from __future__ import annotations

import socket
from selectors import EVENT_READ, EVENT_WRITE

from refimpl.shm.store.session import Session
from refimpl.store.wire import HEADER, PAYLOAD_MAX

#: Requests served a turn.
_TURN = 8
#: Bytes read a turn.
_READ = 8192
#: A client with more than this waiting to be sent, in bytes, is not read.
_ENOUGH = 64 << 10


class Connection:
    """One client's socket and session. ``is_closed`` is final."""

    def __init__(self, stream: socket.socket, session: Session) -> None:
        stream.setblocking(False)
        self.stream = stream
        self.session = session
        self.is_closed = False
        self._input = bytearray()
        self._has_ended = False

    @property
    def wanted(self) -> int:
        """The events to wait for; none while an earlier request of the domain still has to leave the server."""
        events = EVENT_WRITE if self.session.outbox else 0
        if self._may_serve():
            # A request that is here already is announced by no event: being writable is one that comes at once.
            events |= EVENT_READ | (EVENT_WRITE if self._has_request() else 0)
        return events

    def serve(self, readable: bool) -> None:
        """Serve a few requests of what has come."""
        left = self._serve_input(_TURN)
        if left and readable and self._may_serve():
            self._receive()
            self._serve_input(left)

    def _may_serve(self) -> bool:
        return (
            not self._has_ended
            and not self.session.is_over
            and self.session.outbox.size < _ENOUGH
            and self.session.domain.usage.may_ask
        )

    def _receive(self) -> None:
        try:
            data = self.stream.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._input += data
        self._has_ended = not data

    def _has_request(self) -> bool:
        if len(self._input) < HEADER.size:
            return False
        length: int = HEADER.unpack(self._input)[3]
        return length > PAYLOAD_MAX or len(self._input) >= HEADER.size + length

    def _serve_input(self, left: int) -> int:
        """Serve up to ``left`` requests of what was read, and return how many it could still have been."""
        while left and self._has_request() and self._may_serve():
            operation, req_id, tx_id, length = HEADER.unpack(self._input)
            if length > PAYLOAD_MAX:
                self._has_ended = True
                self._input.clear()
                break
            end = HEADER.size + length
            payload = bytes(self._input[HEADER.size : end])
            del self._input[:end]
            self.session.handle(operation, req_id, tx_id, payload)
            left -= 1
        return left

    def flush(self) -> None:
        """Send what the kernel takes."""
        outbox = self.session.outbox
        try:
            while outbox:
                outbox.sent(self.stream.sendmsg(outbox.first(), (), socket.MSG_NOSIGNAL))
        except BlockingIOError:
            pass
        except OSError:
            self._has_ended = True

    @property
    def has_ended(self) -> bool:
        """Whether to hang up: the client did, or broke the protocol, or lets too much wait, or its domain is gone."""
        too_much = self.session.outbox.size > self.session.domain.usage.quotas.output_bytes
        return self._has_ended or self.session.is_over or too_much

    @property
    def has_stalled(self) -> bool:
        """Whether the client lets something wait for too long."""
        return self.session.outbox.age > self.session.domain.usage.quotas.stall_seconds

    def close(self) -> None:
        """Hang up."""
        self.is_closed = True
        self.stream.close()
        self.session.hang_up()
