"""The commands and what all their requests and responses share.

A request is 64 bytes: ``req_id``, ``cmd``, then the command's own 56 bytes, which start with the socket's ``id``.
A response is 24 bytes and is the same for all seven commands.

Spec: Commands Ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from refimpl.commands.error_numbers import LOWEST_ERROR_NUMBER, name_of
from refimpl.layout import Layout, Structure

REQUEST_SIZE_BYTES = 64  # RING-5, RING-6
#: What a command's own arguments may take of it.
ARGUMENTS_SIZE_BYTES = 56  # RING-11
RESPONSE_SIZE_BYTES = 24  # RING-14


class Command(IntEnum):
    """The values of ``cmd`` (erratum E-CMD: the sections' own numbers are stale)."""

    SOCKET = 0  # RING-4 (E-CMD)
    CONNECT = 1
    RELEASE = 2
    BIND = 3
    LISTEN = 4
    ACCEPT = 5
    POLL = 6


def request_layout(name: str, *members: tuple[str, str]) -> Layout:
    """Declare a request: the common head, the members, zeroes up to 64 bytes."""
    head = (("req_id", "I"), ("cmd", "I"))  # RING-5, RING-7, RING-8
    return Layout(name, *head, *members, total_size=REQUEST_SIZE_BYTES)  # RING-11, EXPAND-3


@dataclass(frozen=True, slots=True)
class RequestHead(Structure):
    """What can be read of any request, also of an unknown command's: req_id, cmd and the eight bytes of id."""

    LAYOUT: ClassVar[Layout] = request_layout("request head", ("id", "Q"))

    req_id: int
    cmd: int
    id: int


@dataclass(frozen=True, slots=True)
class Response(Structure):
    """A response: which request it answers, and how that ended.

    ``ret`` is 0 or a negative error number. ``id`` echoes the request's, bit for bit: Linux's frontend has a pointer
    there (erratum E-POLL-ID).
    """

    LAYOUT: ClassVar[Layout] = Layout(  # RING-14
        "xen_pvcalls_response", ("req_id", "I"), ("cmd", "I"), ("ret", "i"), ("pad", "4x"), ("id", "Q")
    )

    req_id: int
    cmd: int
    ret: int
    id: int

    @classmethod
    def to(cls, request: RequestHead, ret: int = 0) -> Response:
        """Return the answer to a request: its req_id, cmd and id echoed, every byte written, padding zero."""
        return cls(request.req_id, request.cmd, int(ret), request.id)  # RING-9, RING-15, RING-17 (E-PADRSP)

    @property
    def is_well_formed(self) -> bool:
        """Whether ``ret`` is what a response may say: 0 or -4095..-1."""
        return LOWEST_ERROR_NUMBER <= self.ret <= 0  # SEC-F-4

    def __str__(self) -> str:
        command = Command(self.cmd).name if self.cmd in Command._value2member_map_ else f"command {self.cmd}"
        ret = "0" if self.ret == 0 else f"{self.ret} ({name_of(self.ret)})"
        return f"{command} req_id={self.req_id} id={self.id:#x} ret={ret}"
