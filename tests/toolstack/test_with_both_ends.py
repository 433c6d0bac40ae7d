"""A device made, removed while connected, and made again, between a real frontend and a real backend."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from refimpl.backend.backend import Backend
from refimpl.errors import DeviceGone
from refimpl.frontend.frontend import Frontend
from refimpl.platform import Platform
from refimpl.shm import ShmPlatform
from refimpl.testing.pair import shm_run
from refimpl.toolstack import Change, Device, Toolstack, attach, detach, devices, introduce_domain_nodes
from refimpl.xenstore.state_machine import XenbusState

S = XenbusState
PATIENCE = 60.0


@pytest.fixture
def run() -> Iterator[str]:
    """A run of the shm platform."""
    with shm_run() as directory:
        yield directory


@pytest.fixture
def domain_0(run: str) -> Iterator[Platform]:
    """Domain 0 with a backend that serves."""
    with ShmPlatform.join(run, domid=0) as platform:
        backend = Backend(platform)
        backend.start()
        try:
            yield platform
        finally:
            backend.stop()


@pytest.mark.spec("XS-1", "XS-2", "STATE-1")
@pytest.mark.erratum("E-BCLOSE")
@pytest.mark.parametrize("force", [False, True])
def test_removed_while_connected_and_made_again(run: str, domain_0: Platform, force: bool) -> None:
    with ShmPlatform.join(run) as guest:
        introduce_domain_nodes(domain_0.store, guest.domid)
        for _ in range(3):
            device = attach(domain_0.store, guest.domid)
            frontend = Frontend.open(guest, timeout=PATIENCE)
            socket = frontend.socket()
            assert devices(domain_0.store) == [Device(guest.domid, 0, 0, S.CONNECTED, S.CONNECTED)]
            detach(domain_0.store, guest.domid, force=force, timeout=PATIENCE)
            assert devices(domain_0.store) == []
            for path in (device.frontend_path, device.backend_path, device.record_path):
                assert domain_0.store.read_or_none(path) is None
            with pytest.raises(DeviceGone):
                socket.connect(("198.51.100.1", 9))
            with pytest.raises(DeviceGone):
                frontend.socket()
            frontend.close()


def test_guests_come_connect_and_leave(run: str, domain_0: Platform) -> None:
    changes: list[Change] = []
    changed = threading.Condition()

    def report(change: Change) -> None:
        with changed:
            changes.append(change)
            changed.notify_all()

    def await_change(change: Change) -> None:
        with changed:
            assert changed.wait_for(lambda: change in changes, PATIENCE), (change, changes)

    with ExitStack() as stack:
        toolstack = Toolstack(domain_0.store, list_domains=lambda store: range(1, 10))
        thread = threading.Thread(target=toolstack.run, args=(report,))
        thread.start()
        stack.callback(thread.join, PATIENCE)
        stack.callback(toolstack.close)
        domids = []
        for _ in range(2):
            with ShmPlatform.join(run) as guest:
                domids.append(guest.domid)
                with Frontend.open(guest, timeout=PATIENCE, arrival_timeout=PATIENCE) as frontend:
                    frontend.socket()
                await_change(Change("attached", guest.domid))
            await_change(Change("removed", domids[-1]))
            assert devices(domain_0.store) == []
    assert [change.what for change in changes] == ["attached", "removed"] * 2
    for domid in domids:
        assert domain_0.store.read_or_none(f"/local/domain/{domid}") is None
