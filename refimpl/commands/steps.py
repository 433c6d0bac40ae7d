"""What a backend does for a command, one step a bullet of the document's list.

Each command's module has a generator that yields these steps; the backend's dispatcher carries a step out and sends its
result back. A step that acquires something (a socket, a mapping, an event channel) leaves its release with the
dispatcher, so the generators hold no clean-up: failure, RELEASE and Closing unwind what was acquired, success hands
it to the socket. A step marked *waits* may be answered later, while other commands go on.

A step that fails raises :class:`~refimpl.errors.CommandRefused` in the dispatcher; the command ends with its number.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from refimpl.commands.address_format import InternetAddress


class SocketState(Enum):
    """How far a socket has come, as POSIX sees it."""

    CREATED = auto()
    BOUND = auto()
    LISTENING = auto()
    CONNECTING = auto()
    CONNECTED = auto()
    RELEASING = auto()


class SocketEntry(Protocol):
    """What a command needs to see of a socket in the backend's table."""

    @property
    def id(self) -> int:
        """The number the frontend gave it."""

    @property
    def state(self) -> SocketState:
        """How far it has come."""


@dataclass(frozen=True, slots=True)
class ReserveId:
    """Claim a socket id, within the guest's limit; -> None. Fails: EEXIST, EMFILE."""

    id: int


@dataclass(frozen=True, slots=True)
class OpenSocket:
    """Make the operating system's socket for a reserved id and put it in the table; -> its entry."""

    id: int


@dataclass(frozen=True, slots=True)
class FindSocket:
    """Look an id up in the backend's own table; -> its entry. Fails: EBADF."""

    id: int


@dataclass(frozen=True, slots=True)
class FindSocketIfAny:
    """Look an id up; -> its entry, or None."""

    id: int


@dataclass(frozen=True, slots=True)
class ConnectSocket:
    """Connect to an address. Waits; -> None. Fails: as POSIX connect()."""

    entry: SocketEntry
    address: InternetAddress


@dataclass(frozen=True, slots=True)
class AcceptConnection:
    """Take the listener's first pending connection for a reserved id. Waits; -> the new socket's entry."""

    entry: SocketEntry
    id_new: int


@dataclass(frozen=True, slots=True)
class MapIndexesPage:
    """Map the page behind ``ref`` for a socket; -> None. Fails: EFAULT."""

    entry: SocketEntry
    ref: int


@dataclass(frozen=True, slots=True)
class MapDataRing:
    """Map all grants the indexes page lists, contiguously; -> None. Fails: EINVAL (order), EFAULT (grants)."""

    entry: SocketEntry


@dataclass(frozen=True, slots=True)
class BindEventChannel:
    """Bind the data ring's event channel; -> None. Fails: EINVAL."""

    entry: SocketEntry
    evtchn: int


@dataclass(frozen=True, slots=True)
class StartDataRing:
    """Hand what was acquired to the socket: data flows from now on, and once looked for at once; -> None."""

    entry: SocketEntry


@dataclass(frozen=True, slots=True)
class BindSocket:
    """Give the socket an address; -> None. Fails: as POSIX bind()."""

    entry: SocketEntry
    address: InternetAddress


@dataclass(frozen=True, slots=True)
class ListenOnSocket:
    """Make the socket passive; -> None. Fails: as POSIX listen()."""

    entry: SocketEntry
    backlog: int


@dataclass(frozen=True, slots=True)
class WaitForConnection:
    """Wait until a connection is queued on the listener, and leave it there. Waits; -> None."""

    entry: SocketEntry


@dataclass(frozen=True, slots=True)
class AnswerPending:
    """End every command that still waits on the socket, each with EBADF and its own response; -> None."""

    entry: SocketEntry


@dataclass(frozen=True, slots=True)
class DrainOutput:
    """Send what is in ``out`` up to the out_prod read now, for a bounded time. Waits; -> None."""

    entry: SocketEntry


@dataclass(frozen=True, slots=True)
class CloseSocket:
    """Close the operating system's socket; -> None."""

    entry: SocketEntry


@dataclass(frozen=True, slots=True)
class UnmapDataRing:
    """Unmap the data ring; -> None."""

    entry: SocketEntry


@dataclass(frozen=True, slots=True)
class UnmapIndexesPage:
    """Unmap the indexes page; -> None."""

    entry: SocketEntry


@dataclass(frozen=True, slots=True)
class UnbindEventChannel:
    """Unbind the data ring's event channel; -> None."""

    entry: SocketEntry


@dataclass(frozen=True, slots=True)
class ForgetSocket:
    """Take the socket out of the table: its id is free again; -> None."""

    entry: SocketEntry


Step = (
    ReserveId
    | OpenSocket
    | FindSocket
    | FindSocketIfAny
    | ConnectSocket
    | AcceptConnection
    | MapIndexesPage
    | MapDataRing
    | BindEventChannel
    | StartDataRing
    | BindSocket
    | ListenOnSocket
    | WaitForConnection
    | AnswerPending
    | DrainOutput
    | CloseSocket
    | UnmapDataRing
    | UnmapIndexesPage
    | UnbindEventChannel
    | ForgetSocket
)

#: A command's backend side: yields steps, is sent their results, returns when the command has succeeded.
Steps = Generator[Step, Any, None]
