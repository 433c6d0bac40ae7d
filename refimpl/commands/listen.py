"""Section *Listen*: make a bound socket passive.

    frontend                backend
    LISTEN id, backlog --->  listen on the socket
                       <---  ret

Spec: Commands Ring > Listen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.message import Command, request_layout
from refimpl.commands.steps import FindSocket, ListenOnSocket, SocketState, Steps
from refimpl.errors import CommandRefused
from refimpl.layout import Layout, Structure


@dataclass(frozen=True, slots=True)
class ListenRequest(Structure):
    """LISTEN: ``backlog`` is the most connections that may be pending."""

    LAYOUT: ClassVar[Layout] = request_layout(  # LISTEN-2
        "xen_pvcalls_listen", ("id", "Q"), ("backlog", "I"), ("pad", "4x")
    )

    req_id: int
    cmd: int
    id: int
    backlog: int

    @classmethod
    def make(cls, req_id: int, id: int, backlog: int) -> ListenRequest:
        """Return the request."""
        return cls(req_id, Command.LISTEN, id, backlog)  # LISTEN-2


def steps(request: ListenRequest) -> Steps:
    """Carry out LISTEN in the backend; a second one changes the backlog, as POSIX has it."""
    entry = yield FindSocket(request.id)  # LISTEN-1 (E-UNKNOWN-ID)
    if entry.state not in (SocketState.BOUND, SocketState.LISTENING):
        raise CommandRefused(ErrorNumber.EINVAL, "the socket is not bound")  # BIND-2, LISTEN-4 (E-WRONGSTATE)
    yield ListenOnSocket(entry, request.backlog)  # LISTEN-1 (E-BACKLOG)
