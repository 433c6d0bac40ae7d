"""Commands good and bad, byte by byte, at whatever backend serves this guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import BACK
from faults import POLL_UNANSWERED

from refimpl.testing import HostileFrontend
from refimpl.testing.raw import (
    accept_request,
    address,
    bind_request,
    connect_request,
    listen_request,
    poll_request,
    release_request,
    request,
    socket_request,
)
from refimpl.xen import XenPlatform

IN_USE, NOT_SUPPORTED = -98, -524
#: Where the document leaves the number open.
NO_FAMILY, NO_SOCKET = (-97, -22) if BACK.startswith("linux") else (NOT_SUPPORTED, -9)


@pytest.fixture(scope="module")
def front() -> Iterator[HostileFrontend]:
    with XenPlatform.open() as platform, HostileFrontend(platform) as front:
        front.connect()
        yield front


def answer(front: HostileFrontend, slot: bytes) -> int:
    response = front.call(slot)
    assert (response.req_id, response.cmd) == (int.from_bytes(slot[:4], "little"), int.from_bytes(slot[4:8], "little"))
    return response.ret


def test_socket(front: HostileFrontend) -> None:
    assert answer(front, socket_request(1, 0x10)) == 0
    assert answer(front, socket_request(2, 0x11, domain=10)) == NO_FAMILY


def test_unknown_command(front: HostileFrontend) -> None:
    assert answer(front, request(77, 3)) == NOT_SUPPORTED


def test_listen_of_an_unknown_id(front: HostileFrontend) -> None:
    assert answer(front, listen_request(4, 0x9999)) == NO_SOCKET


def test_release_of_an_unknown_id(front: HostileFrontend) -> None:
    assert answer(front, release_request(5, 0x9999)) == 0


def test_bind_to_an_address_in_use(front: HostileFrontend) -> None:
    assert answer(front, socket_request(6, 0x20)) == 0
    assert answer(front, bind_request(7, 0x20, address("127.0.0.1", 7001))) == IN_USE
    assert answer(front, release_request(8, 0x20)) == 0


def test_listen_before_bind(front: HostileFrontend) -> None:
    assert answer(front, socket_request(10, 0x30)) == 0
    assert answer(front, listen_request(11, 0x30)) == -22
    assert answer(front, release_request(12, 0x30)) == 0


@pytest.mark.never("back:linux", reason="it goes on with a socket that does not listen, and oopses the kernel")
def test_accept_and_poll_before_listen(front: HostileFrontend) -> None:
    assert answer(front, socket_request(13, 0x40)) == 0
    assert answer(front, bind_request(14, 0x40, address("127.0.0.1", 7402))) == 0
    ring = front.make_data_ring()
    assert answer(front, accept_request(15, 0x40, 0x41, ring.ref, ring.port)) == -22
    assert answer(front, poll_request(16, 0x40)) == -22
    assert answer(front, release_request(17, 0x40)) == 0


def test_connect_to_an_address_of_no_family(front: HostileFrontend) -> None:
    assert answer(front, socket_request(18, 0x50)) == 0
    ring = front.make_data_ring()
    nowhere = address("127.0.0.1", 7001, family=77)
    assert answer(front, connect_request(19, 0x50, nowhere, ring.ref, ring.port)) < 0
    assert answer(front, release_request(20, 0x50)) == 0


@pytest.mark.fault_of("back:linux", reason=POLL_UNANSWERED)
def test_poll_of_an_unknown_id_is_answered(front: HostileFrontend) -> None:
    front.patience = 3
    assert answer(front, poll_request(9, 0x9999)) == NO_SOCKET
