"""Section *Socket families and address format*: one family, one type, and 28 bytes of address.

The numbers are the document's own and do not depend on either end's system (a BSD has another AF_INET6, and a length
byte where the family is). Only the port and the address are in network order.

Spec: Commands Ring > Socket families and address format.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import CommandRefused, Misuse
from refimpl.layout import Layout


class AddressFamily(IntEnum):
    """``sa_family`` and SOCKET's ``domain``."""

    AF_UNSPEC = 0  # FAMILY-3
    AF_UNIX = 1
    AF_LOCAL = 1
    AF_INET = 2
    AF_INET6 = 10


class SocketType(IntEnum):
    """SOCKET's ``type``."""

    SOCK_STREAM = 1  # FAMILY-3
    SOCK_DGRAM = 2
    SOCK_RAW = 3


#: The only ``protocol``: the type's default.
DEFAULT_PROTOCOL = 0  # FAMILY-1 (E-PROTO)

ADDRESS_SIZE_BYTES = 28  # FAMILY-4
#: What our frontend gives as ``len``, and the least a backend takes (erratum E-LEN).
SOCKADDR_IN_SIZE_BYTES = 16

SOCKADDR = Layout("sockaddr", ("sa_family", "H"), ("sa_data", "26s"))  # FAMILY-4
SOCKADDR_IN = Layout(  # FAMILY-5
    "sockaddr_in", ("sin_family", "H"), ("sin_port", "2s"), ("sin_addr", "4s"), ("sin_zero", "20x")
)


def check_socket_arguments(domain: int, type_: int, protocol: int) -> None:
    """Raise CommandRefused(ENOTSUP) for any but an IPv4 stream socket of the default protocol."""
    only = (AddressFamily.AF_INET, SocketType.SOCK_STREAM, DEFAULT_PROTOCOL)
    if (domain, type_, protocol) != only:  # FAMILY-1
        reason = f"family {domain}, type {type_}, protocol {protocol}: only 2, 1, 0 is served"
        raise CommandRefused(ErrorNumber.ENOTSUP, reason)  # FAMILY-2 (E-FAMERR)


@dataclass(frozen=True, slots=True)
class InternetAddress:
    """An IPv4 address and TCP port number, both in host order; ``host`` is dotted decimal."""

    host: str
    port_number: int

    def to_bytes(self) -> bytes:
        """Encode as the 28 bytes of ``addr``. Raises Misuse for what is no IPv4 address or TCP port number."""
        if not 0 <= self.port_number <= 0xFFFF:
            raise Misuse(f"TCP port number {self.port_number} is not from 0 to 65535")
        try:
            packed = ipaddress.IPv4Address(self.host).packed
        except ValueError:
            raise Misuse(f"{self.host!r} is not an IPv4 address in dotted decimal") from None
        return SOCKADDR_IN.pack(AddressFamily.AF_INET, self.port_number.to_bytes(2, "big"), packed)  # FAMILY-6

    @classmethod
    def from_request(cls, addr: bytes, length: int) -> Self:
        """Decode a request's ``addr`` and ``len``, as a backend does. Raises CommandRefused.

        Reads the first 16 of the 28 bytes and ignores the rest, which Linux leaves stale (erratum E-SOCKADDR).
        """
        if not SOCKADDR_IN_SIZE_BYTES <= length <= ADDRESS_SIZE_BYTES:  # CONNECT-14, BIND-4 (E-LEN)
            reason = f"len {length} is not from {SOCKADDR_IN_SIZE_BYTES} to {ADDRESS_SIZE_BYTES}"
            raise CommandRefused(ErrorNumber.EINVAL, reason)
        family, port, host = SOCKADDR_IN.unpack(addr)  # FAMILY-5, SEC-B-16
        if family != AddressFamily.AF_INET:  # SEC-B-16 (E-LEN)
            raise CommandRefused(ErrorNumber.EAFNOSUPPORT, f"address family {family}: only 2 is served")
        return cls(str(ipaddress.IPv4Address(host)), int.from_bytes(port, "big"))  # FAMILY-6

    def __str__(self) -> str:
        return f"{self.host}:{self.port_number}"
