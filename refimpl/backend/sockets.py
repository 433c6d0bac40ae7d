"""The guest's sockets: one table a guest, keyed by the numbers the frontend chose and by nothing else.

An entry owns what its socket has: the system's socket, the mapped indexes page and data ring, the event channel. Each
is let go of by a method of its own that may be called in any state and any number of times, so that RELEASE, a failed
command and Closing all take the same ways.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from refimpl.backend import network
from refimpl.backend.connection import Connection
from refimpl.backend.limits import Limits, SharedDescriptors
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.steps import SocketState
from refimpl.data_ring.indexes_page import IndexesPage
from refimpl.errors import CommandRefused
from refimpl.platform import MappedPages

if TYPE_CHECKING:
    from refimpl.backend.dispatcher import PendingCommand


class SocketEntry:
    """A socket of the guest, and everything held for it."""

    def __init__(self, socket_id: int, system_socket: socket.socket) -> None:
        self.id = socket_id
        self.state = SocketState.CREATED
        self.system_socket = system_socket
        self.mapped_page: MappedPages | None = None
        self.indexes_page: IndexesPage | None = None
        self.mapped_ring: MappedPages | None = None
        self.port: int | None = None
        self.page_ref = 0
        self.connection: Connection | None = None
        #: The address a listener has, for the policy's sake.
        self.listens_on: InternetAddress | None = None
        #: Commands not answered yet that this socket must answer before it goes.
        self.waiting: list[PendingCommand] = []
        self.accepts: deque[PendingCommand] = deque()
        self.polls: deque[PendingCommand] = deque()

    def close_socket(self) -> None:
        """Close the system's socket; the data ring is still mapped."""
        if self.connection is not None:
            self.connection.close()
        self.system_socket.close()

    def unmap_data_ring(self) -> None:
        """Unmap the data ring."""
        if self.connection is not None:
            self.connection.release_views()
        self.connection = None
        if self.mapped_ring is not None:
            self.mapped_ring.unmap()
        self.mapped_ring = None

    def unmap_indexes_page(self) -> None:
        """Unmap the indexes page."""
        if self.indexes_page is not None:
            self.indexes_page.release()
        self.indexes_page = None
        if self.mapped_page is not None:
            self.mapped_page.unmap()
        self.mapped_page = None


class SocketTable:
    """The sockets of one guest, within its limits and those of what all guests share."""

    def __init__(self, limits: Limits, shared: SharedDescriptors) -> None:
        #: Changed where the guest's limits change.
        self.limits = limits
        self._shared = shared
        self._entries: dict[int, SocketEntry | None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[SocketEntry]:
        return iter([entry for entry in self._entries.values() if entry is not None])

    def reserve(self, socket_id: int) -> None:
        """Claim an id. Raises CommandRefused: EEXIST, EMFILE."""
        if socket_id in self._entries:
            raise CommandRefused(ErrorNumber.EEXIST, f"socket {socket_id:#x} exists")  # E-DUPID, E-IDSPACE
        if len(self._entries) >= self.limits.sockets:  # SEC-B-6
            raise CommandRefused(ErrorNumber.EMFILE, f"the guest has {self.limits.sockets} sockets, its limit")
        if not self._shared.may_take(len(self._entries)):
            raise CommandRefused(ErrorNumber.EMFILE, "the descriptors that are left are for guests with fewer sockets")
        self._shared.taken += 1
        self._entries[socket_id] = None

    def add(self, entry: SocketEntry) -> None:
        """Put an entry where its id was reserved."""
        self._entries[entry.id] = entry

    def find(self, socket_id: int) -> SocketEntry | None:
        """Return the entry, or None for an id unknown or only reserved."""
        return self._entries.get(socket_id)

    def remove(self, socket_id: int) -> None:
        """Free an id; one not in use is ignored."""
        if socket_id in self._entries:
            del self._entries[socket_id]
            self._shared.taken -= 1

    def count_listeners(self) -> int:
        """Return how many of the sockets listen."""
        return sum(entry.state is SocketState.LISTENING for entry in self)


def new_entry(socket_id: int) -> SocketEntry:
    """Make the system's socket and its entry. Raises CommandRefused."""
    return SocketEntry(socket_id, network.open_socket())
