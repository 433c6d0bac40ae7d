"""Host names are resolved here, on the guest's side, into the IPv4 addresses that the protocol carries.

Spec: Commands Ring > Socket families and address format.
"""

from __future__ import annotations

import errno
import ipaddress
import socket

from refimpl.commands.address_format import InternetAddress
from refimpl.errors import Misuse

Address = tuple[str, int]


def resolve(address: Address) -> list[InternetAddress]:
    """Return the IPv4 addresses of ``(host, port)``, best first; ``""`` is any address of the backend's domain.

    Raises Misuse for what is no host and TCP port number, socket.gaierror where the name is not known, and
    OSError(EAFNOSUPPORT) where all it has is IPv6.
    """
    host, port_number = _check(address)
    if host in ("", "0.0.0.0"):
        return [InternetAddress("0.0.0.0", port_number)]
    if _is_literal(host, ipaddress.IPv4Address):
        return [InternetAddress(host, port_number)]
    if _is_literal(host, ipaddress.IPv6Address):
        raise OSError(errno.EAFNOSUPPORT, f"{host} is an IPv6 address; PV Calls carries IPv4 only")  # FAMILY-1
    try:
        found = socket.getaddrinfo(host, port_number, socket.AF_INET, socket.SOCK_STREAM)  # FAMILY-1
    except socket.gaierror:
        _refuse_ipv6_name(host)
        raise
    hosts = dict.fromkeys(str(entry[4][0]) for entry in found)
    return [InternetAddress(each, port_number) for each in hosts]


def _check(address: Address) -> Address:
    try:
        host, port_number = address
    except (TypeError, ValueError):
        raise Misuse(f"an address is (host, port number), not {address!r}") from None
    if not isinstance(host, str):
        raise Misuse(f"a host is a str, not {host!r}")
    if not isinstance(port_number, int) or not 0 <= port_number <= 0xFFFF:
        raise Misuse(f"TCP port number {port_number!r} is not from 0 to 65535")
    return host, port_number


def _is_literal(host: str, kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> bool:
    try:
        kind(host)
    except ValueError:
        return False
    return True


def _refuse_ipv6_name(host: str) -> None:
    """Say so where a name is known, but has no IPv4 address."""
    try:
        socket.getaddrinfo(host, None, socket.AF_INET6, socket.SOCK_STREAM)
    except socket.gaierror:
        return
    message = f"{host} has IPv6 addresses only; PV Calls carries IPv4 only"
    raise OSError(errno.EAFNOSUPPORT, message) from None  # FAMILY-1
