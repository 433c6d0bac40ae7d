"""Section *Accept*: take a pending connection and set up its data ring.

    frontend                                 backend
    grant a data ring and its indexes page,
    allocate an event channel
    ACCEPT id, id_new, ref, evtchn     --->  wait for a connection on the socket id, and accept it
                                             remember it under id_new
                                             map the indexes page behind ref
                                             map all grants listed in it: the data ring
                                             bind evtchn
                                       <---  ret

Never answered with EAGAIN: there is no response until there is a connection.

Spec: Commands Ring > Accept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.message import Command, request_layout
from refimpl.commands.steps import (
    AcceptConnection,
    BindEventChannel,
    FindSocket,
    MapDataRing,
    MapIndexesPage,
    ReserveId,
    SocketState,
    StartDataRing,
    Steps,
)
from refimpl.errors import CommandRefused
from refimpl.layout import Layout, Structure


@dataclass(frozen=True, slots=True)
class AcceptRequest(Structure):
    """ACCEPT: ``id`` listens, ``id_new`` names the new socket, ``ref`` and ``evtchn`` are its data ring's."""

    LAYOUT: ClassVar[Layout] = request_layout(  # ACCEPT-13
        "xen_pvcalls_accept", ("id", "Q"), ("id_new", "Q"), ("ref", "I"), ("evtchn", "I")
    )

    req_id: int
    cmd: int
    id: int
    id_new: int
    ref: int
    evtchn: int

    @classmethod
    def make(cls, req_id: int, id: int, id_new: int, ref: int, evtchn: int) -> AcceptRequest:
        """Return the request for a data ring that is set up: ``ref`` its indexes page, ``evtchn`` our port."""
        return cls(req_id, Command.ACCEPT, id, id_new, ref, evtchn)  # ACCEPT-2, ACCEPT-3, ACCEPT-4, ACCEPT-5


def steps(request: AcceptRequest) -> Steps:
    """Carry out ACCEPT in the backend."""
    listener = yield FindSocket(request.id)  # ACCEPT-1 (E-UNKNOWN-ID)
    if listener.state is not SocketState.LISTENING:
        raise CommandRefused(ErrorNumber.EINVAL, "the socket does not listen")  # BIND-2, ACCEPT-15 (E-WRONGSTATE)
    yield ReserveId(request.id_new)  # ACCEPT-2 (E-DUPID)
    entry = yield AcceptConnection(listener, request.id_new)  # ACCEPT-1, ACCEPT-6, ACCEPT-7, ACCEPT-8
    yield MapIndexesPage(entry, request.ref)  # ACCEPT-9 (E-ACC-MAPTIME)
    yield MapDataRing(entry)  # ACCEPT-10
    yield BindEventChannel(entry, request.evtchn)  # ACCEPT-11
    yield StartDataRing(entry)  # ACCEPT-12 (E-ACC-PREDATA)
