"""Create a device, and list those there are."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace

from refimpl.errors import PeerViolation, StoreExists, StoreNoEntry
from refimpl.platform import Store, StoreView
from refimpl.toolstack.domains import record_root
from refimpl.toolstack.nodes import check_domids, make_directory, numbers_in, remove_if_there
from refimpl.xenstore.paths import DEVICE_TYPE, backend_path, domain_path, frontend_path
from refimpl.xenstore.state_machine import XenbusState, format_state, parse_state


@dataclass(frozen=True, slots=True)
class Device:
    """A device by the toolstack's own record; a state is None where that end's directory is gone."""

    frontend_id: int
    device_id: int
    backend_id: int
    frontend_state: XenbusState | None = None
    backend_state: XenbusState | None = None

    @property
    def frontend_path(self) -> str:
        """The frontend's directory."""
        return frontend_path(self.frontend_id, self.device_id)

    @property
    def backend_path(self) -> str:
        """The backend's directory."""
        return backend_path(self.backend_id, self.frontend_id, self.device_id)

    @property
    def record_path(self) -> str:
        """The toolstack's own directory."""
        return f"{_devices_path(self.frontend_id)}/{self.device_id}"


def attach(
    store: Store, frontend_id: int, backend_id: int = 0, device_id: int = 0, *, allow_several: bool = False
) -> Device:
    """Create a device, both ends in Initialising, in one transaction.

    A domain has one PV Calls device; ``allow_several`` is for those who want to see what the ends make of more.
    Raises StoreNoEntry (the domain has no directory), StoreExists (it has a device).
    """
    check_domids(frontend_id, backend_id)
    device = Device(frontend_id, device_id, backend_id, XenbusState.INITIALISING, XenbusState.INITIALISING)

    def create(view: StoreView) -> None:
        view.read(domain_path(frontend_id))
        existing = numbers_in(view, _devices_path(frontend_id))
        if device_id in existing or (existing and not allow_several):  # XS-4 (E-DEVID)
            raise StoreExists("EEXIST", device.record_path, "the domain has a PV Calls device")
        _create_device(view, device)

    store.transact(create)
    return device


def _create_device(view: StoreView, device: Device) -> None:
    initialising = format_state(XenbusState.INITIALISING)
    record, frontend, backend = device.record_path, device.frontend_path, device.backend_path
    frontend_permissions = [f"n{device.frontend_id}", f"r{device.backend_id}"]
    backend_permissions = [f"n{device.backend_id}", f"r{device.frontend_id}"]
    for stale in (record, frontend, backend):  # Of an earlier domain with this number.
        remove_if_there(view, stale)
    view.write(f"{record}/frontend", frontend.encode())
    view.write(f"{record}/backend", backend.encode())
    make_directory(view, frontend, frontend_permissions)
    view.write(f"{frontend}/backend", backend.encode())  # XS-1
    view.write(f"{frontend}/backend-id", str(device.backend_id).encode())  # XS-1
    view.write(f"{frontend}/state", initialising)  # XS-2, STATE-1
    make_directory(view, backend, backend_permissions)
    view.write(f"{backend}/frontend", frontend.encode())  # XS-1
    for directory in (backend, record):
        view.write(f"{directory}/frontend-id", str(device.frontend_id).encode())  # XS-1
        view.write(f"{directory}/online", b"1")
        view.write(f"{directory}/state", initialising)  # XS-2, STATE-1


def devices(store: StoreView) -> list[Device]:
    """Return all devices that the toolstack knows of, with the states of both ends as they are now."""
    return [device for frontend_id in numbers_in(store, "/libxl") for device in devices_of(store, frontend_id)]


def devices_of(store: StoreView, frontend_id: int) -> list[Device]:
    """Return one domain's devices."""
    found = []
    for device_id in numbers_in(store, _devices_path(frontend_id)):
        with suppress(StoreNoEntry):  # Removed since.
            found.append(find(store, frontend_id, device_id))
    return found


def find(store: StoreView, frontend_id: int, device_id: int = 0) -> Device:
    """Return one device. Raises StoreNoEntry."""
    path = f"{_devices_path(frontend_id)}/{device_id}"
    recorded = store.read(f"{path}/backend")
    match = re.match(rb"/local/domain/([0-9]{1,5})/", recorded)
    device = Device(frontend_id, device_id, int(match[1]) if match else 0)
    if device.backend_path.encode() != recorded:
        raise StoreNoEntry("ENOENT", path, "the record names no PV Calls backend")
    return replace(
        device,
        frontend_state=read_state(store, f"{device.frontend_path}/state"),
        backend_state=read_state(store, f"{device.backend_path}/state"),
    )


def read_state(store: StoreView, path: str) -> XenbusState | None:
    """Return what a ``state`` node says: None where there is no node, UNKNOWN for what is no state."""
    raw = store.read_or_none(path)
    try:
        return None if raw is None else parse_state(raw)
    except PeerViolation:
        return XenbusState.UNKNOWN


def _devices_path(domid: int) -> str:
    return f"{record_root(domid)}/device/{DEVICE_TYPE}"
