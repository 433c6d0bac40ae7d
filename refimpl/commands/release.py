"""Section *Release*: close a socket, active or passive.

    frontend                             backend
    RELEASE id, reuse              --->  close the socket
                                         active: unmap the data ring, then the indexes page, unbind evtchn
                                   <---  ret
    free ring, page and evtchn

What the frontend put in ``out`` before it is sent first, for a bounded time (erratum E-SENDCLOSE).

Spec: Commands Ring > Release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.message import Command, request_layout
from refimpl.commands.steps import (
    AnswerPending,
    CloseSocket,
    DrainOutput,
    FindSocketIfAny,
    ForgetSocket,
    SocketState,
    Steps,
    UnbindEventChannel,
    UnmapDataRing,
    UnmapIndexesPage,
)
from refimpl.errors import CommandRefused
from refimpl.layout import Layout, Structure


@dataclass(frozen=True, slots=True)
class ReleaseRequest(Structure):
    """RELEASE: ``reuse`` 1 promises that a later active socket has the same grants and event channel."""

    LAYOUT: ClassVar[Layout] = request_layout(  # RELEASE-6
        "xen_pvcalls_release", ("id", "Q"), ("reuse", "B"), ("pad", "7x")
    )

    req_id: int
    cmd: int
    id: int
    reuse: int

    @classmethod
    def make(cls, req_id: int, id: int, reuse: bool = False) -> ReleaseRequest:
        """Return the request; ``reuse`` promises the ring to a later socket."""
        return cls(req_id, Command.RELEASE, id, int(reuse))  # RELEASE-6, RELEASE-8 (E-REUSE)


def steps(request: ReleaseRequest) -> Steps:
    """Carry out RELEASE in the backend.

    ``reuse`` is a hint a backend may ignore, and Linux's frontend leaves it stale, so it is (RELEASE-9, E-REUSE).
    An unknown id is answered 0: Linux's frontend releases sockets its backend never had (erratum E-REL-UNKNOWN).
    """
    entry = yield FindSocketIfAny(request.id)  # RELEASE-1 (E-REL-UNKNOWN)
    if entry is None:
        return
    if entry.state is SocketState.RELEASING:
        raise CommandRefused(ErrorNumber.EBADF, "the socket is being released already")  # RELEASE-12
    yield AnswerPending(entry)  # E-ACC-REL, E-CONN-SYNC
    if entry.state is SocketState.CONNECTED:
        yield DrainOutput(entry)  # E-SENDCLOSE
    yield CloseSocket(entry)  # RELEASE-1, RELEASE-2, RELEASE-4, RELEASE-7
    yield UnmapDataRing(entry)  # RELEASE-3, RELEASE-4, RELEASE-9, CONNECT-11, SEC-B-23 (E-REUSE)
    yield UnmapIndexesPage(entry)  # RELEASE-3, RELEASE-4
    yield UnbindEventChannel(entry)  # RELEASE-4
    yield ForgetSocket(entry)  # RELEASE-1
