"""Section *Bind*: give a socket an address of the backend's domain.

    frontend                   backend
    BIND id, addr, len   --->  bind the socket
                         <---  ret

Spec: Commands Ring > Bind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from refimpl.commands.address_format import SOCKADDR_IN_SIZE_BYTES, InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.message import Command, request_layout
from refimpl.commands.steps import BindSocket, FindSocket, SocketState, Steps
from refimpl.errors import CommandRefused
from refimpl.layout import Layout, Structure


@dataclass(frozen=True, slots=True)
class BindRequest(Structure):
    """BIND: ``addr`` is the address the socket gets."""

    LAYOUT: ClassVar[Layout] = request_layout(  # BIND-3
        "xen_pvcalls_bind", ("id", "Q"), ("addr", "28s"), ("len", "I")
    )

    req_id: int
    cmd: int
    id: int
    addr: bytes
    len: int

    @classmethod
    def make(cls, req_id: int, id: int, address: InternetAddress) -> BindRequest:
        """Return the request."""
        return cls(req_id, Command.BIND, id, address.to_bytes(), SOCKADDR_IN_SIZE_BYTES)  # BIND-3, BIND-4


def steps(request: BindRequest) -> Steps:
    """Carry out BIND in the backend."""
    entry = yield FindSocket(request.id)  # BIND-1 (E-UNKNOWN-ID)
    if entry.state is not SocketState.CREATED:
        raise CommandRefused(ErrorNumber.EINVAL, "the socket has an address already")  # BIND-6 (E-WRONGSTATE)
    address = InternetAddress.from_request(request.addr, request.len)  # BIND-4 (E-LEN)
    yield BindSocket(entry, address)  # BIND-1, RAT-6
