"""What Xen itself refuses, as the answers of refimpl's backend; the device goes on after each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refimpl.errors import StoreAccessRefused
from refimpl.testing import DataRing, HostileFrontend
from refimpl.testing.raw import address, connect_request, release_request, socket_request
from refimpl.xen import XenPlatform

ECHO = address("127.0.0.1", 7001)
EFAULT, EINVAL = -14, -22


@pytest.fixture(scope="module")
def front() -> Iterator[HostileFrontend]:
    with XenPlatform.open() as platform, HostileFrontend(platform) as front:
        front.set_state(1)  # From wherever the last frontend left it.
        front.connect()
        yield front


def connect(front: HostileFrontend, ring: DataRing, *, ref: int | None = None, port: int | None = None) -> int:
    """Return what CONNECT with this ring is answered; the socket is released."""
    assert front.call(socket_request(1, 0x10)).ret == 0
    slot = connect_request(2, 0x10, ECHO, ring.ref if ref is None else ref, ring.port if port is None else port)
    ret = front.call(slot).ret
    assert front.call(release_request(3, 0x10)).ret == 0
    return ret


def good(front: HostileFrontend) -> DataRing:
    return front.make_data_ring(1)


@pytest.fixture(autouse=True)
def _device_goes_on(front: HostileFrontend) -> Iterator[None]:
    yield
    assert connect(front, good(front)) == 0


@pytest.mark.security("SEC-B-9")
@pytest.mark.parametrize("ref", [7, 65_000, 2**32 - 1])
def test_page_of_a_bad_ref(front: HostileFrontend, ref: int) -> None:
    assert connect(front, good(front), ref=ref) == EFAULT


@pytest.mark.security("SEC-B-9")
@pytest.mark.erratum("E-MAPFAIL")
def test_one_bad_ref_among_good_ones(front: HostileFrontend) -> None:
    ring = front.make_data_ring(2, refs=lambda refs, _: [*refs[:3], 65_000])
    assert connect(front, ring) == EFAULT


def test_page_granted_for_reading_only(front: HostileFrontend) -> None:
    platform = front.platform
    page = platform.grant(0, 1, writable=False)
    assert connect(front, good(front), ref=page.refs[0]) == EFAULT
    page.end()


def test_page_whose_grant_has_ended(front: HostileFrontend) -> None:
    ring, page = good(front), front.platform.grant(0, 1)
    ref = page.refs[0]
    page.end()  # The next grant would have the same ref.
    assert connect(front, ring, ref=ref) == EFAULT


def test_page_granted_to_another_domain(front: HostileFrontend) -> None:
    page = front.platform.grant(front.platform.domid, 1)
    assert connect(front, good(front), ref=page.refs[0]) == EFAULT
    page.end()


@pytest.mark.security("SEC-B-10")
def test_ports_that_cannot_be_bound(front: HostileFrontend) -> None:
    platform = front.platform
    for_ourselves = platform.allocate_unbound(platform.domid)
    for port in (0, 2**32 - 1, 1_000_000, front.port, for_ourselves):
        assert connect(front, good(front), port=port) == EINVAL, port
    platform.close_port(for_ourselves)


@pytest.mark.security("SEC-B-10")
def test_port_of_another_socket(front: HostileFrontend) -> None:
    assert front.call(socket_request(4, 0x20)).ret == 0
    ring = good(front)
    assert front.call(connect_request(5, 0x20, ECHO, ring.ref, ring.port)).ret == 0
    assert connect(front, good(front), port=ring.port) == EINVAL
    assert front.call(release_request(6, 0x20)).ret == 0


def test_xenstore_keeps_the_backends_nodes_from_us(front: HostileFrontend) -> None:
    store = front.platform.store
    for path in (f"{front.other_path}/state", "/local/domain/0/backend/pvcalls/99/0/state", "/libxl/x"):
        with pytest.raises(StoreAccessRefused):
            store.write(path, b"6")
