"""What waits to be sent to one client.

A watch event that already waits is not queued a second time: the client will look at the node after it, and so sees
both changes. Special events are never merged.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from refimpl.store.wire import Operation, packet, strings

if TYPE_CHECKING:
    from refimpl.shm.store.quotas import Usage

#: Messages handed to the kernel at a time.
_BATCH = 64


class Outstanding:
    """One request of an unprivileged domain, until its reply and all events it caused have been sent.

    So a domain that floods others with events waits for them to read, rather than fill the server's memory.
    """

    __slots__ = ("_messages", "_usage")

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._messages = 0

    def queued(self) -> None:
        """Count one message of it that waits."""
        if not self._messages:
            self._usage.outstanding += 1
        self._messages += 1

    def left(self) -> None:
        """Count one message of it that was sent or given up."""
        self._messages -= 1
        if not self._messages:
            self._usage.outstanding -= 1


class _Waiting(NamedTuple):
    message: bytes
    request: Outstanding | None
    since: float


class Outbox:
    """A queue of messages, and how far its first has been sent. ``size`` is what it holds, in bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._messages: deque[_Waiting] = deque()
        self._events: set[bytes] = set()
        self._sent_of_first = 0

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add_reply(self, message: bytes, request: Outstanding | None) -> None:
        """Queue the answer to a request."""
        self._add(message, request)

    def add_event(self, path: bytes, token: bytes, request: Outstanding | None) -> None:
        """Queue a watch event that a request caused, unless the same one waits already."""
        event = packet(Operation.WATCH_EVENT, strings(path, token))
        if not path.startswith(b"@"):
            if event in self._events:
                return
            self._events.add(event)
        self._add(event, request)

    def _add(self, message: bytes, request: Outstanding | None) -> None:
        self._messages.append(_Waiting(message, request, monotonic()))
        self.size += len(message)
        if request is not None:
            request.queued()

    @property
    def age(self) -> float:
        """For how many seconds the first message has waited; 0 where none does."""
        return monotonic() - self._messages[0].since if self._messages else 0.0

    def first(self) -> list[memoryview]:
        """Return the next bytes to send, a piece a message."""
        pieces = [memoryview(waiting.message) for waiting in islice(self._messages, _BATCH)]
        if self._sent_of_first:
            pieces[0] = pieces[0][self._sent_of_first :]
        return pieces

    def sent(self, count: int) -> None:
        """Take out so many bytes, which the kernel has now."""
        self.size -= count
        count += self._sent_of_first
        while self._messages and count >= len(self._messages[0].message):
            count -= len(self._messages[0].message)
            self._take_first()
        self._sent_of_first = count

    def clear(self) -> None:
        """Give up all that waits."""
        while self._messages:
            self._take_first()
        self.size = self._sent_of_first = 0

    def _take_first(self) -> None:
        message, request, _ = self._messages.popleft()
        self._events.discard(message)
        if request is not None:
            request.left()
