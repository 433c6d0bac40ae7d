"""Section *Socket*: make a socket and give it a name.

    frontend                                 backend
    SOCKET id, domain, type, protocol  --->  check that the three are ones it serves
                                             make the socket, remember it under id
                                       <---  ret

Spec: Commands Ring > Socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from refimpl.commands.address_format import (
    DEFAULT_PROTOCOL,
    AddressFamily,
    SocketType,
    check_socket_arguments,
)
from refimpl.commands.message import Command, request_layout
from refimpl.commands.steps import OpenSocket, ReserveId, Steps
from refimpl.layout import Layout, Structure


@dataclass(frozen=True, slots=True)
class SocketRequest(Structure):
    """SOCKET: ``id`` is any number the frontend chooses; from now on it names this socket."""

    LAYOUT: ClassVar[Layout] = request_layout(  # SOCKET-4
        "xen_pvcalls_socket", ("id", "Q"), ("domain", "I"), ("type", "I"), ("protocol", "I"), ("pad", "4x")
    )

    req_id: int
    cmd: int
    id: int
    domain: int
    type: int
    protocol: int

    @classmethod
    def make(cls, req_id: int, id: int) -> SocketRequest:
        """Return the only request a version 1 frontend sends: an IPv4 stream socket."""
        family, type_ = AddressFamily.AF_INET, SocketType.SOCK_STREAM
        return cls(req_id, Command.SOCKET, id, family, type_, DEFAULT_PROTOCOL)  # SOCKET-2, FAMILY-1, RING-8


def steps(request: SocketRequest) -> Steps:
    """Carry out SOCKET in the backend."""
    check_socket_arguments(request.domain, request.type, request.protocol)  # SOCKET-3, SOCKET-7
    yield ReserveId(request.id)  # SOCKET-2 (E-DUPID, E-IDSPACE)
    yield OpenSocket(request.id)  # SOCKET-1
