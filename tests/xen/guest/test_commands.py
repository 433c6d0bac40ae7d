"""Commands good and bad, byte by byte, at whatever backend serves this guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import BACK

from refimpl.testing import HostileFrontend
from refimpl.testing.raw import (
    address,
    bind_request,
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


@pytest.mark.fault_of("back:linux", "Linux never answers a POLL of an id it does not know (LB-14)")
@pytest.mark.fault_of("back:linux-fixed", "Linux never answers a POLL of an id it does not know (LB-14)")
def test_poll_of_an_unknown_id_is_answered(front: HostileFrontend) -> None:
    front.patience = 3
    assert answer(front, poll_request(9, 0x9999)) == NO_SOCKET
