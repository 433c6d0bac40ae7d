"""Attach writes what libxl writes, byte for byte; the list is what the toolstack's own record says."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from refimpl.errors import Misuse, StoreConflict, StoreExists, StoreNoEntry
from refimpl.toolstack import Device, attach, devices, introduce_domain_nodes
from refimpl.xenstore.state_machine import XenbusState

S = XenbusState

#: A device 0 between domain 1 and a backend in domain 0, as `xl create` left it in Xen 4.17 (seen with
#: ``xenstore-ls -fp``), before either end did anything.
WRITTEN_BY_LIBXL = {
    "/libxl/1/device/pvcalls": ("", "n0"),
    "/libxl/1/device/pvcalls/0": ("", "n0"),
    "/libxl/1/device/pvcalls/0/frontend": ("/local/domain/1/device/pvcalls/0", "n0"),
    "/libxl/1/device/pvcalls/0/backend": ("/local/domain/0/backend/pvcalls/1/0", "n0"),
    "/libxl/1/device/pvcalls/0/frontend-id": ("1", "n0"),
    "/libxl/1/device/pvcalls/0/online": ("1", "n0"),
    "/libxl/1/device/pvcalls/0/state": ("1", "n0"),
    "/local/domain/1/device/pvcalls": ("", "n0,r1"),
    "/local/domain/1/device/pvcalls/0": ("", "n1,r0"),
    "/local/domain/1/device/pvcalls/0/backend": ("/local/domain/0/backend/pvcalls/1/0", "n1,r0"),
    "/local/domain/1/device/pvcalls/0/backend-id": ("0", "n1,r0"),
    "/local/domain/1/device/pvcalls/0/state": ("1", "n1,r0"),
    "/local/domain/0/backend": ("", "n0"),
    "/local/domain/0/backend/pvcalls": ("", "n0"),
    "/local/domain/0/backend/pvcalls/1": ("", "n0"),
    "/local/domain/0/backend/pvcalls/1/0": ("", "n0,r1"),
    "/local/domain/0/backend/pvcalls/1/0/frontend": ("/local/domain/1/device/pvcalls/0", "n0,r1"),
    "/local/domain/0/backend/pvcalls/1/0/frontend-id": ("1", "n0,r1"),
    "/local/domain/0/backend/pvcalls/1/0/online": ("1", "n0,r1"),
    "/local/domain/0/backend/pvcalls/1/0/state": ("1", "n0,r1"),
}


@pytest.mark.spec("XS-1", "XS-2", "XS-3", "STATE-1")
def test_every_node_that_libxl_writes_and_no_other(store, dump_of) -> None:
    before = dump_of(store)
    device = attach(store, 1)
    after = dump_of(store)
    added = {path: (value.decode(), who) for path, (value, who) in after.items() if path not in before}
    assert added == WRITTEN_BY_LIBXL
    assert {path: after[path] for path in before} == before
    assert device == Device(1, 0, 0, S.INITIALISING, S.INITIALISING)


@pytest.mark.spec("XS-2", "STATE-1")
def test_debian_s_tool_sees_the_same(store, list_with_debians_tool) -> None:
    before = list_with_debians_tool()
    attach(store, 1)
    after = list_with_debians_tool()
    assert {path: node for path, node in after.items() if path not in before} == WRITTEN_BY_LIBXL


@pytest.mark.spec("XS-1", "XS-3")
def test_a_backend_in_another_domain_and_another_number(store, dump_of) -> None:
    attach(store, 1, backend_id=2, device_id=3)
    expected = {}
    for path, (value, who) in WRITTEN_BY_LIBXL.items():
        path = path.replace("/domain/0/", "/domain/2/").replace("pvcalls/0", "pvcalls/3").replace("/1/0", "/1/3")
        value = value.replace("/domain/0/", "/domain/2/").replace("pvcalls/0", "pvcalls/3").replace("/1/0", "/1/3")
        who = {"n1,r0": "n1,r2", "n0,r1": "n2,r1"}.get(who, who)
        expected[path] = (value, who)
    expected["/local/domain/1/device/pvcalls"] = ("", "n0,r1")
    expected["/local/domain/1/device/pvcalls/3/backend-id"] = ("2", "n1,r2")
    for path in ("backend", "backend/pvcalls", "backend/pvcalls/1"):
        expected[f"/local/domain/2/{path}"] = ("", "n0,r2")  # Inherited from the domain's directory.
    nodes = dump_of(store)
    assert {path: (nodes[path][0].decode(), nodes[path][1]) for path in expected} == expected


def test_leftovers_of_an_earlier_domain_are_replaced(store, dump_of) -> None:
    store.write("/local/domain/0/backend/pvcalls/1/0/max-page-order", b"99")
    store.write("/local/domain/1/device/pvcalls/0/ring-ref", b"8")
    before = set(WRITTEN_BY_LIBXL)
    attach(store, 1)
    assert {path for path in dump_of(store) if "pvcalls" in path} == {path for path in before if "pvcalls" in path}


@pytest.mark.spec("XS-4")
@pytest.mark.erratum("E-DEVID")
def test_one_device_a_domain(store) -> None:
    attach(store, 1)
    with pytest.raises(StoreExists):
        attach(store, 1)
    with pytest.raises(StoreExists):
        attach(store, 1, device_id=1)
    assert [(device.frontend_id, device.device_id) for device in devices(store)] == [(1, 0)]
    attach(store, 2)
    attach(store, 1, device_id=1, allow_several=True)
    assert [(device.frontend_id, device.device_id) for device in devices(store)] == [(1, 0), (1, 1), (2, 0)]
    with pytest.raises(StoreExists):
        attach(store, 1, device_id=1, allow_several=True)


def test_the_transaction_is_one(store) -> None:
    """A backend that looks at any moment sees nothing of the device, or all of it."""
    changed = threading.Event()
    seen = []

    def look() -> None:
        while changed.wait(60):
            changed.clear()
            if seen and seen[-1] == 4:
                return
            try:
                seen.append(len(store.list("/local/domain/0/backend/pvcalls/1/0")))
            except StoreNoEntry:
                seen.append(0)

    watch = store.watch("/local/domain/0/backend", lambda path: changed.set())
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        attach(store, 1)
        while not looking.done():
            changed.set()
        looking.result()
    watch.cancel()
    assert set(seen) <= {0, 4}


def test_a_domain_that_is_not_there(store) -> None:
    with pytest.raises(StoreNoEntry):
        attach(store, 9)
    assert devices(store) == []


@pytest.mark.parametrize(("frontend_id", "backend_id"), [(-1, 0), (0x7FF0, 0), (1, -1), (1, 0x7FF4)])
def test_numbers_no_domain_has(store, frontend_id: int, backend_id: int) -> None:
    with pytest.raises(Misuse):
        attach(store, frontend_id, backend_id)


def test_eight_at_once_make_one_device(store) -> None:
    def work(_own: int) -> str:
        try:
            attach(store, 1)
        except StoreExists:
            return "exists"
        except StoreConflict:
            return "conflict"
        return "attached"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert results.count("attached") == 1
    assert len(devices(store)) == 1


class TestList:
    def test_states_of_both_ends(self, store) -> None:
        device = attach(store, 1)
        store.write(f"{device.frontend_path}/state", b"4")
        store.write(f"{device.backend_path}/state", b"2")
        assert devices(store) == [Device(1, 0, 0, S.CONNECTED, S.INIT_WAIT)]

    def test_ends_that_are_gone_or_write_nonsense(self, store) -> None:
        device = attach(store, 1)
        store.remove(device.frontend_path)
        store.write(f"{device.backend_path}/state", b"twelve\xff")
        assert devices(store) == [Device(1, 0, 0, None, S.UNKNOWN)]

    def test_what_the_guest_writes_of_its_backend_counts_nothing(self, store) -> None:
        device = attach(store, 1)
        store.write(f"{device.frontend_path}/backend", b"/local/domain/2/backend/pvcalls/1/0")
        store.write(f"{device.frontend_path}/backend-id", b"2")
        store.write("/local/domain/1/device/pvcalls/5/state", b"1")
        assert devices(store) == [Device(1, 0, 0, S.INITIALISING, S.INITIALISING)]

    @pytest.mark.parametrize("record", [b"", b"nonsense", b"/local/domain/0/backend/vif/1/0", b"/local/domain/x/y"])
    def test_records_of_no_pv_calls_device_are_left_out(self, store, record: bytes) -> None:
        attach(store, 2)
        store.write("/libxl/1/device/pvcalls/0/backend", record)
        store.write("/libxl/1/device/pvcalls/x/backend", record)
        assert [device.frontend_id for device in devices(store)] == [2]

    def test_no_toolstack_was_ever_here(self, store) -> None:
        store.remove("/libxl")
        assert devices(store) == []

    def test_many_guests_in_order(self, store) -> None:
        for domid in (12, 3, 100):
            introduce_domain_nodes(store, domid)
            attach(store, domid)
        assert [device.frontend_id for device in devices(store)] == [3, 12, 100]
