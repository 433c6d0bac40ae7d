"""Addresses and socket arguments."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.commands.address_format import (
    SOCKADDR,
    SOCKADDR_IN,
    AddressFamily,
    InternetAddress,
    SocketType,
    check_socket_arguments,
)
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import CommandRefused, Misuse

HOSTS = st.ip_addresses(v=4).map(str)
PORTS = st.integers(0, 65535)


@pytest.mark.spec("FAMILY-4", "FAMILY-5")
@pytest.mark.erratum("E-SOCKADDR")
def test_both_address_structures_are_28_bytes() -> None:
    assert SOCKADDR.size == SOCKADDR_IN.size == 28
    assert (SOCKADDR.offset_of("sa_family"), SOCKADDR.offset_of("sa_data")) == (0, 2)
    offsets = [SOCKADDR_IN.offset_of(name) for name in ("sin_family", "sin_port", "sin_addr", "sin_zero")]
    assert offsets == [0, 2, 4, 8]


@pytest.mark.spec("FAMILY-3")
def test_constants_do_not_depend_on_the_system() -> None:
    families = {name: member.value for name, member in AddressFamily.__members__.items()}
    assert families == {"AF_UNSPEC": 0, "AF_UNIX": 1, "AF_LOCAL": 1, "AF_INET": 2, "AF_INET6": 10}
    assert {m.name: m.value for m in SocketType} == {"SOCK_STREAM": 1, "SOCK_DGRAM": 2, "SOCK_RAW": 3}


@pytest.mark.spec("FAMILY-6", "FAMILY-5")
@given(HOSTS, PORTS)
def test_port_and_address_are_in_network_order_and_the_family_is_not(host: str, port: int) -> None:
    encoded = InternetAddress(host, port).to_bytes()
    assert encoded == struct.pack("<H", 2) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(20)
    assert InternetAddress.from_request(encoded, 16) == InternetAddress(host, port)


@pytest.mark.erratum("E-SOCKADDR")
@pytest.mark.security("SEC-B-16")
@given(HOSTS, PORTS, st.binary(min_size=20, max_size=20), st.integers(16, 28))
def test_only_the_first_eight_bytes_are_looked_at(host: str, port: int, stale: bytes, length: int) -> None:
    address = InternetAddress(host, port)
    assert InternetAddress.from_request(address.to_bytes()[:8] + stale, length) == address


@pytest.mark.spec("CONNECT-14", "BIND-4")
@pytest.mark.erratum("E-LEN")
@pytest.mark.parametrize("length", [0, 2, 15, 29, 128, 2**31, 2**32 - 1])
def test_a_length_too_short_or_too_long_is_einval(length: int) -> None:
    with pytest.raises(CommandRefused) as refused:
        InternetAddress.from_request(InternetAddress("1.2.3.4", 5).to_bytes(), length)
    assert refused.value.error_number == ErrorNumber.EINVAL


@pytest.mark.erratum("E-LEN")
@pytest.mark.security("SEC-B-16")
@pytest.mark.parametrize("family", [0, 1, 3, 10, 0x0200, 65535])
def test_another_family_is_eafnosupport(family: int) -> None:
    encoded = struct.pack("<H", family) + InternetAddress("1.2.3.4", 5).to_bytes()[2:]
    with pytest.raises(CommandRefused) as refused:
        InternetAddress.from_request(encoded, 16)
    assert refused.value.error_number == ErrorNumber.EAFNOSUPPORT


@pytest.mark.spec("FAMILY-1", "FAMILY-2")
@pytest.mark.erratum("E-FAMERR", "E-PROTO")
@pytest.mark.parametrize(
    ("domain", "type_", "protocol"), [(10, 1, 0), (1, 1, 0), (0, 1, 0), (2, 2, 0), (2, 3, 0), (2, 1, 6), (2, 1, 2)]
)
def test_anything_but_ipv4_streams_of_protocol_0_is_not_supported(domain: int, type_: int, protocol: int) -> None:
    with pytest.raises(CommandRefused) as refused:
        check_socket_arguments(domain, type_, protocol)
    assert refused.value.error_number == ErrorNumber.ENOTSUP == -524


@pytest.mark.spec("FAMILY-1")
def test_ipv4_streams_are_served() -> None:
    check_socket_arguments(2, 1, 0)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_users_bad_tcp_port_number_is_said(port: int) -> None:
    with pytest.raises(Misuse) as misuse:
        InternetAddress("1.2.3.4", port).to_bytes()
    assert str(misuse.value) == f"TCP port number {port} is not from 0 to 65535"


@pytest.mark.parametrize("host", ["::1", "1.2.3", "localhost", "", "1.2.3.4.5", "256.1.1.1"])
def test_a_users_bad_host_is_said(host: str) -> None:
    with pytest.raises(Misuse) as misuse:
        InternetAddress(host, 1).to_bytes()
    assert str(misuse.value) == f"{host!r} is not an IPv4 address in dotted decimal"


def test_an_address_prints_as_users_write_it() -> None:
    assert str(InternetAddress(str(ipaddress.IPv4Address(1)), 80)) == "0.0.0.1:80"
