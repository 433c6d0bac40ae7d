"""The frontend's place in xenstore: its own directory, the backend's, the two states, and changes waited for.

Our directory is ours, so what it says of the backend can be believed as far as it is what a toolstack writes. The
backend's directory is the backend's: everything read there is checked.

Spec: Xenstore; Frontend XenBus Nodes; Backend XenBus Nodes; State Machine.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from refimpl.errors import DeviceGone, Misuse, PeerViolation, StoreAccessRefused, StoreError, StoreNoEntry
from refimpl.platform import Platform, StoreView
from refimpl.xenstore import backend_nodes
from refimpl.xenstore.backend_nodes import BackendNodes
from refimpl.xenstore.frontend_nodes import FrontendNodes
from refimpl.xenstore.paths import DEVICE_TYPE, backend_path, domain_path, frontend_error_path, frontend_path
from refimpl.xenstore.state_machine import XenbusState, format_state, parse_state
from refimpl.xenstore.values import parse_uint32


class Xenbus:
    """Device ``device_id`` of the platform's domain, as xenstore has it.

    Raises DeviceGone where the toolstack made no such device, PeerViolation where its nodes make no sense, and Misuse
    for another device than the domain's first.
    """

    def __init__(self, platform: Platform, device_id: int) -> None:
        self._store = platform.store
        self._path = frontend_path(platform.domid, device_id)
        self._error_path = frontend_error_path(platform.domid, device_id)
        self._check_device(platform.domid, device_id)
        backend_id = self._store.read_or_none(f"{self._path}/backend-id")
        self.backend_id = parse_uint32("XS-1", "backend-id", backend_id)
        self._backend_path = backend_path(self.backend_id, platform.domid, device_id)
        named = self._store.read_or_none(f"{self._path}/backend")
        if named is None or named.removesuffix(b"\0") != self._backend_path.encode():  # SEC-F-12
            raise PeerViolation("SEC-F-12", "backend", named, self._backend_path)
        self._changed = threading.Event()
        self._lost = False
        self._store.on_lost(self._on_lost)
        self._watch = self._store.watch(f"{self._backend_path}/state", lambda _: self._changed.set())

    def _check_device(self, domid: int, device_id: int) -> None:
        """Refuse a device that is not there, and any but the domain's first (E-DEVID)."""
        try:
            names = self._store.list(f"{domain_path(domid)}/device/{DEVICE_TYPE}")
        except (StoreNoEntry, StoreAccessRefused):
            names = []
        if str(device_id) not in names:
            remedy = f"refimpl toolstack attach {domid}, or a pvcalls line in the domain's configuration"
            raise DeviceGone(f"domain {domid} has no PV Calls device {device_id}: {remedy}")
        first = min(int(name) for name in names if name.isdecimal())
        if first != device_id:  # XS-4
            raise Misuse(f"a domain has one PV Calls device, and domain {domid}'s is {first}, not {device_id}")

    def read_own_state(self) -> XenbusState:
        """Return our own state; a node that is not there is Closed."""
        return parse_state(self._store.read_or_none(f"{self._path}/state"))

    def is_as_we_left_it(self, state: XenbusState) -> bool:
        """Say whether our own state is still what we wrote: not that of a device that was removed, or made anew."""
        try:
            return parse_state(self._store.read(f"{self._path}/state")) is state
        except (StoreNoEntry, StoreAccessRefused, PeerViolation):
            return False

    def read_backend_state(self) -> XenbusState:
        """Return the backend's state; one that is not there, cannot be read or makes no sense is Closed."""
        try:
            if self._lost:
                return XenbusState.CLOSED
            return parse_state(self._store.read(f"{self._backend_path}/state"))
        except (StoreError, PeerViolation):
            return XenbusState.CLOSED  # (E-FASTCLOSE), SEC-F-14

    def write_own_state(self, state: XenbusState) -> None:
        """Go to a state. A device that was removed meanwhile stays removed."""

        def write(view: StoreView) -> None:
            if view.read_or_none(f"{self._path}/state") is not None:
                view.write(f"{self._path}/state", format_state(state))

        self._store.transact(write)

    def read_backend_nodes(self) -> BackendNodes:
        """Return what the backend offers. Raises PeerViolation where we cannot talk."""
        names = backend_nodes.NAMES
        nodes = {name: self._store.read_or_none(f"{self._backend_path}/{name}") for name in names}
        return BackendNodes.from_nodes(nodes, peer=self.backend_id)  # BNODE-2, BNODE-6, SEC-F-13

    def publish(self, nodes: FrontendNodes) -> None:
        """Write our nodes, all or none."""

        def write(view: StoreView) -> None:
            for name, value in nodes.to_nodes().items():
                view.write(f"{self._path}/{name}", value)

        self._store.transact(write)  # STATE-3, FNODE-1, FNODE-3, FNODE-4

    def report(self, error: Exception) -> None:
        """Say in xenstore why we gave up, as far as we may."""
        with suppress(StoreError):
            self._store.write(self._error_path, str(error).encode()[:256])

    def wait_for_change(self, deadline: float | None = None) -> bool:
        """Wait until the backend's state may have changed, or :meth:`stir` is called; return False at the deadline."""
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        stirred = self._changed.wait(timeout)
        self._changed.clear()
        return stirred

    def stir(self) -> None:
        """End a :meth:`wait_for_change`, the one in progress or the next."""
        self._changed.set()

    def close(self) -> None:
        """Stop watching."""
        with suppress(StoreError):
            self._watch.cancel()

    def _on_lost(self) -> None:
        self._lost = True
        self._changed.set()
