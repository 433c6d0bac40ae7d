"""Remove devices: ask the backend to close, wait, delete; and what the dead left."""

from __future__ import annotations

import threading
import time

from refimpl.errors import RemovalTimedOut
from refimpl.platform import Store, StoreView
from refimpl.toolstack.devices import Device, devices, find, read_state
from refimpl.toolstack.domains import delete_domain, record_root
from refimpl.toolstack.nodes import remove_with_empty_parents
from refimpl.xenstore.paths import domain_path
from refimpl.xenstore.state_machine import XenbusState, format_state

#: How long libxl waits for a backend to close, in seconds.
REMOVAL_SECONDS = 10.0

#: A lost connection wakes no watch, so waits look again after this long at most.
_LOOK_AGAIN_SECONDS = 1.0


def detach(
    store: Store,
    frontend_id: int,
    device_id: int = 0,
    *,
    force: bool = False,
    timeout: float = REMOVAL_SECONDS,
) -> None:
    """Remove a device, connected or not: tell the backend to close, wait until it has, delete all nodes.

    ``force`` deletes the frontend's directory first, and the rest after ``timeout`` seconds even if the backend has not
    closed by then. Raises StoreNoEntry (no such device), RemovalTimedOut (not forced; the device stays, told to close).
    """
    device = find(store, frontend_id, device_id)
    tell_to_close(store, device, force=force)
    if not _await_close(store, device, time.monotonic() + timeout) and not force:
        raise RemovalTimedOut(frontend_id, device_id, timeout)
    delete(store, device)


def reap(store: Store, *, timeout: float = REMOVAL_SECONDS) -> list[int]:
    """Remove what dead domains left, as xl does when it destroys one: devices, by force, then their directories.

    Only domains with a PV Calls device are looked at: one that xl is just building has none until it is introduced.
    Returns the domids.
    """
    dead = [device for device in devices(store) if not store.is_introduced(device.frontend_id)]
    for device in dead:
        tell_to_close(store, device, force=True)
    deadline = time.monotonic() + timeout
    for device in dead:
        _await_close(store, device, deadline)
        delete(store, device)
    domids = sorted({device.frontend_id for device in dead})
    for domid in domids:
        delete_domain(store, domid)
    return domids


def tell_to_close(store: Store, device: Device, *, force: bool) -> None:
    """Ask the backend to close; ``force`` takes the frontend's directory away in the same moment."""
    state_path = f"{device.backend_path}/state"

    def tell(view: StoreView) -> None:
        if force:
            remove_with_empty_parents(view, device.frontend_path, domain_path(device.frontend_id))
        state = read_state(view, state_path)
        if state is None:
            return  # The backend's directory is gone already.
        view.write(f"{device.backend_path}/online", b"0")
        if state is not XenbusState.CLOSED:
            view.write(state_path, format_state(XenbusState.CLOSING))  # E-BCLOSE

    store.transact(tell)


def is_closed(store: StoreView, device: Device) -> bool:
    """Say whether the backend has closed the device, or is gone."""
    return read_state(store, f"{device.backend_path}/state") in (None, XenbusState.CLOSED)


def _await_close(store: Store, device: Device, deadline: float) -> bool:
    changed = threading.Event()
    watch = store.watch(f"{device.backend_path}/state", lambda _path: changed.set())
    try:
        while not is_closed(store, device):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            changed.wait(min(left, _LOOK_AGAIN_SECONDS))
            changed.clear()
        return True
    finally:
        watch.cancel()


def delete(store: Store, device: Device) -> None:
    """Delete all of a device's nodes, and the directories above them that this leaves empty."""

    def delete(view: StoreView) -> None:
        remove_with_empty_parents(view, device.frontend_path, domain_path(device.frontend_id))
        remove_with_empty_parents(view, device.record_path, record_root(device.frontend_id))
        remove_with_empty_parents(view, device.backend_path, domain_path(device.backend_id))

    store.transact(delete)
