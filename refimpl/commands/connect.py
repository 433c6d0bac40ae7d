"""Section *Connect*: connect a socket and set up its data ring.

    frontend                                     backend
    grant the data ring's pages and the
    indexes page, allocate an event channel
    CONNECT id, addr, len, ref, evtchn     --->  look the socket up by id
                                                 connect it to the address
                                                 map the indexes page behind ref
                                                 map all grants listed in it: the data ring
                                                 bind evtchn
                                           <---  ret: the connection is made

Spec: Commands Ring > Connect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from refimpl.commands.address_format import SOCKADDR_IN_SIZE_BYTES, InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.message import Command, request_layout
from refimpl.commands.steps import (
    BindEventChannel,
    ConnectSocket,
    FindSocket,
    MapDataRing,
    MapIndexesPage,
    SocketState,
    StartDataRing,
    Steps,
)
from refimpl.errors import CommandRefused
from refimpl.layout import Layout, Structure


@dataclass(frozen=True, slots=True)
class ConnectRequest(Structure):
    """CONNECT: ``ref`` grants the indexes page, ``evtchn`` is a new event channel for this data ring alone."""

    LAYOUT: ClassVar[Layout] = request_layout(  # CONNECT-13 (E-FIGPTR)
        "xen_pvcalls_connect",
        ("id", "Q"),
        ("addr", "28s"),
        ("len", "I"),
        ("flags", "I"),
        ("ref", "I"),
        ("evtchn", "I"),
        ("pad", "4x"),
    )

    req_id: int
    cmd: int
    id: int
    addr: bytes
    len: int
    flags: int
    ref: int
    evtchn: int

    @classmethod
    def make(cls, req_id: int, id: int, address: InternetAddress, ref: int, evtchn: int) -> ConnectRequest:
        """Return the request for a data ring that is set up: ``ref`` its indexes page, ``evtchn`` our port."""
        flags = 0  # CONNECT-15 (E-FLAGS)
        length = SOCKADDR_IN_SIZE_BYTES  # CONNECT-14 (E-SOCKADDR)
        return cls(req_id, Command.CONNECT, id, address.to_bytes(), length, flags, ref, evtchn)  # CONNECT-2, CONNECT-4


_REFUSED_STATES = {
    SocketState.CONNECTED: (ErrorNumber.EISCONN, "the socket is connected"),
    SocketState.CONNECTING: (ErrorNumber.EALREADY, "a connect is under way"),
    SocketState.LISTENING: (ErrorNumber.EOPNOTSUPP, "the socket listens"),
    SocketState.RELEASING: (ErrorNumber.EBADF, "the socket is being released"),
}


def steps(request: ConnectRequest) -> Steps:
    """Carry out CONNECT in the backend; ``flags`` is ignored (CONNECT-15, erratum E-FLAGS)."""
    entry = yield FindSocket(request.id)  # CONNECT-5 (E-UNKNOWN-ID)
    if entry.state in _REFUSED_STATES:
        raise CommandRefused(*_REFUSED_STATES[entry.state])  # CONNECT-17 (E-WRONGSTATE)
    address = InternetAddress.from_request(request.addr, request.len)  # CONNECT-14 (E-LEN)
    yield ConnectSocket(entry, address)  # CONNECT-1, CONNECT-6 (E-CONN-SYNC)
    yield MapIndexesPage(entry, request.ref)  # CONNECT-7 (E-MAPORDER)
    yield MapDataRing(entry)  # CONNECT-8
    yield BindEventChannel(entry, request.evtchn)  # CONNECT-9
    yield StartDataRing(entry)  # CONNECT-10
