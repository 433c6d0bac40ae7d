"""Detach: the backend is told, closes, and every node goes; by force also when it does not."""

from __future__ import annotations

import pytest

from refimpl.errors import RemovalTimedOut, StoreNoEntry
from refimpl.toolstack import attach, detach, devices, reap


@pytest.mark.parametrize("states", [(b"1", b"2"), (b"3", b"2"), (b"4", b"4"), (b"6", b"6"), (b"6", b"5")])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.erratum("E-BCLOSE")
def test_a_device_goes_without_a_trace(store, dump_of, obedient_backend, states, force: bool) -> None:
    before = dump_of(store)
    device = attach(store, 1)
    store.write(f"{device.frontend_path}/state", states[0])
    store.write(f"{device.frontend_path}/ring-ref", b"8")
    store.write(f"{device.backend_path}/state", states[1])
    backend = obedient_backend(device.backend_path)
    detach(store, 1, force=force, timeout=60)
    after = dump_of(store)
    # As libxl does: directories left empty above the device go too.
    gone = {path for path in before if path not in after}
    assert gone <= {"/libxl/1/device", "/local/domain/1/device"}
    assert {path: node for path, node in before.items() if path not in gone} == after
    assert devices(store) == []
    told = {(state, online) for state, online in backend.seen if online == b"0"}
    assert told <= {(b"5", b"0"), (b"6", b"0")}


@pytest.mark.erratum("E-BCLOSE")
def test_the_backend_is_told_in_one_transaction(store, obedient_backend) -> None:
    device = attach(store, 1)
    store.write(f"{device.backend_path}/state", b"4")
    backend = obedient_backend(device.backend_path)
    detach(store, 1, timeout=60)
    assert (b"5", b"1") not in backend.seen
    assert (b"4", b"0") not in backend.seen


def test_a_closed_backend_is_not_sent_back_to_closing(store) -> None:
    device = attach(store, 1)
    store.write(f"{device.backend_path}/state", b"6")
    states = []
    watch = store.watch(f"{device.backend_path}/state", states.append)
    detach(store, 1, timeout=0)
    watch.cancel()
    assert devices(store) == []


def test_a_backend_that_does_not_close(store) -> None:
    device = attach(store, 1)
    store.write(f"{device.backend_path}/state", b"4")
    with pytest.raises(RemovalTimedOut) as caught:
        detach(store, 1, timeout=0.05)
    assert "force" in str(caught.value)
    assert isinstance(caught.value, TimeoutError)
    assert store.read(f"{device.backend_path}/state") == b"5"
    assert store.read(f"{device.backend_path}/online") == b"0"
    assert store.read(f"{device.frontend_path}/state") == b"1"
    detach(store, 1, force=True, timeout=0.05)
    assert devices(store) == []
    with pytest.raises(StoreNoEntry):
        store.read(f"{device.backend_path}/state")


def test_force_takes_the_frontend_first(store) -> None:
    device = attach(store, 1)
    seen = []

    class Stop(Exception):
        pass

    watch = store.watch(f"{device.backend_path}/state", lambda path: None)
    original = store.watch

    def spying(path, callback):
        seen.append((store.read_or_none(f"{device.frontend_path}/state"), store.read(f"{device.backend_path}/state")))
        raise Stop

    store.watch = spying
    with pytest.raises(Stop):
        detach(store, 1, force=True)
    store.watch = original
    watch.cancel()
    assert seen == [(None, b"5")]


def test_a_backend_that_is_gone_is_not_waited_for(store) -> None:
    device = attach(store, 1)
    store.remove(device.backend_path)
    detach(store, 1, timeout=60)
    assert devices(store) == []


def test_a_backend_that_removes_its_directory_has_closed(store, obedient_backend) -> None:
    device = attach(store, 1)
    told = []

    def callback(path: str) -> None:
        told.append(path)

    watch = store.watch(f"{device.backend_path}/online", callback)
    original = store.watch

    def remove_after_the_wait_began(path, then):
        result = original(path, then)
        store.remove(device.backend_path)
        return result

    store.watch = remove_after_the_wait_began
    detach(store, 1, timeout=60)
    store.watch = original
    watch.cancel()
    assert devices(store) == []


def test_only_the_device_that_was_named(store) -> None:
    attach(store, 1)
    attach(store, 1, device_id=1, allow_several=True)
    attach(store, 2)
    for frontend_id, device_id in ((1, 0), (2, 0)):
        detach(store, frontend_id, device_id, force=True, timeout=0)
    assert [(device.frontend_id, device.device_id) for device in devices(store)] == [(1, 1)]


def test_no_such_device(store) -> None:
    attach(store, 1)
    for frontend_id, device_id in ((2, 0), (1, 1), (9, 0)):
        with pytest.raises(StoreNoEntry):
            detach(store, frontend_id, device_id)
    assert len(devices(store)) == 1


def test_attach_again_after_detach(store, obedient_backend, dump_of) -> None:
    device = attach(store, 1)
    first = {path: node for path, node in dump_of(store).items() if "pvcalls" in path}
    obedient_backend(device.backend_path)
    for _ in range(5):
        detach(store, 1, timeout=60)
        attach(store, 1)
    assert {path: node for path, node in dump_of(store).items() if "pvcalls" in path} == first


def test_the_dead_are_reaped_and_the_living_left(store, store_server, obedient_backend, dump_of) -> None:
    living, dead = attach(store, 1), attach(store, 2)
    obedient_backend(dead.backend_path)
    assert reap(store) == []
    store_server.kill_domain(2)
    while store.is_introduced(2):
        pass
    assert reap(store, timeout=60) == [2]
    assert reap(store) == []
    nodes = dump_of(store)
    assert not [path for path in nodes if path.startswith(("/local/domain/2", "/libxl/2"))]
    assert not [path for path in nodes if path.startswith(dead.backend_path)]
    assert devices(store) == [living]


def test_dead_guest_and_dead_backend(store, store_server) -> None:
    attach(store, 1, backend_id=2)
    for domid in (1, 2):
        store_server.kill_domain(domid)
        while store.is_introduced(domid):
            pass
    assert reap(store, timeout=0.05) == [1]
    assert devices(store) == []
