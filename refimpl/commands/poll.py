"""Section *Poll*: learn that a passive socket has a connection to accept.

    frontend        backend
    POLL id   --->  wait until a connection is queued
              <---  ret

Active sockets are not polled: the frontend looks at their indexes page. One answer a request; 0 is a hint, since
another accept may take the connection first (erratum E-POLL-SEM).

Spec: Commands Ring > Poll.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.message import Command, request_layout
from refimpl.commands.steps import FindSocket, SocketState, Steps, WaitForConnection
from refimpl.errors import CommandRefused
from refimpl.layout import Layout, Structure


@dataclass(frozen=True, slots=True)
class PollRequest(Structure):
    """POLL: ``id`` is a listening socket's."""

    LAYOUT: ClassVar[Layout] = request_layout("xen_pvcalls_poll", ("id", "Q"))  # POLL-4

    req_id: int
    cmd: int
    id: int

    @classmethod
    def make(cls, req_id: int, id: int) -> PollRequest:
        """Return the request."""
        return cls(req_id, Command.POLL, id)  # POLL-4


def steps(request: PollRequest) -> Steps:
    """Carry out POLL in the backend."""
    entry = yield FindSocket(request.id)  # POLL-6 (E-UNKNOWN-ID)
    if entry.state is not SocketState.LISTENING:  # POLL-1
        raise CommandRefused(
            ErrorNumber.EINVAL, "the socket does not listen"
        )  # POLL-1 (E-POLL-ACTIVE, E-POLL-NOTLISTEN)
    yield WaitForConnection(entry)  # POLL-3 (E-POLL-SEM)
