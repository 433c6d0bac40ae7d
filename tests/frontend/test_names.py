"""Names become IPv4 addresses on the guest's side."""

from __future__ import annotations

import errno
import socket

import pytest

from refimpl.commands.address_format import InternetAddress
from refimpl.errors import Misuse
from refimpl.frontend.names import resolve


@pytest.mark.parametrize(
    "address, found",
    [
        (("192.0.2.1", 80), "192.0.2.1"),
        (("0.0.0.0", 0), "0.0.0.0"),
        (("", 65535), "0.0.0.0"),
        (("localhost", 80), "127.0.0.1"),
        (["127.0.0.1", 80], "127.0.0.1"),
    ],
    ids=str,
)
def test_a_host_is_an_address_or_a_name(address, found):
    assert resolve(address)[0] == InternetAddress(found, address[1])


@pytest.mark.spec("FAMILY-1")
@pytest.mark.parametrize("host", ["::1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_IPv6_is_refused_by_name(host):
    with pytest.raises(OSError, match="IPv4 only") as refused:
        resolve((host, 80))
    assert refused.value.errno == errno.EAFNOSUPPORT


@pytest.fixture
def known(monkeypatch):
    """Names that exist for one test: name -> family -> addresses."""
    names = {}

    def look_up(host, port, family=0, kind=0):
        found = names.get(host, {}).get(family)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(family, kind, 6, "", (each, port or 0)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


def test_all_addresses_of_a_name_in_order_and_once(known):
    known["many"] = {socket.AF_INET: ["192.0.2.2", "192.0.2.1", "192.0.2.2"]}
    assert [str(each) for each in resolve(("many", 8))] == ["192.0.2.2:8", "192.0.2.1:8"]


@pytest.mark.spec("FAMILY-1")
def test_a_name_with_nothing_but_IPv6(known):
    known["six"] = {socket.AF_INET6: ["2001:db8::1"]}
    with pytest.raises(OSError, match="six has IPv6 addresses only") as refused:
        resolve(("six", 80))
    assert refused.value.errno == errno.EAFNOSUPPORT


def test_a_name_nobody_knows(known):
    with pytest.raises(socket.gaierror):
        resolve(("nobody", 80))


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1:80",
        ("192.0.2.1",),
        ("192.0.2.1", 80, 0),
        None,
        5,
        (b"192.0.2.1", 80),
        ("h", "80"),
        ("h", -1),
        ("h", 65536),
    ],
    ids=str,
)
def test_what_is_no_address(address):
    with pytest.raises(Misuse):
        resolve(address)
