"""All devices of one backend domain: found in xenstore, existing ones and those to come."""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Callable

from refimpl.backend import network
from refimpl.backend.device import Device
from refimpl.backend.guest import Services, Settings, Statistics
from refimpl.backend.loop import EventLoop
from refimpl.backend.policy import Policy
from refimpl.backend.status import StatusServer, describe
from refimpl.backend.upcalls import Upcalls
from refimpl.backend.xenbus_thread import XenbusThread
from refimpl.errors import StoreError, StoreLost, StoreNoEntry
from refimpl.platform import Platform, Watch
from refimpl.xenstore.paths import backend_root

_CLOSING_SECONDS = 5.0
_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)


class Backend:
    """Serves all guests of a domain until it is stopped, or xenstore is lost (StoreLost).

    Raises DeviceInUse where another process of the domain does so, PlatformUnavailable where a kernel's driver does.
    """

    def __init__(self, platform: Platform, settings: Settings | None = None) -> None:
        self._platform = platform
        network.own_address_probe()
        self._give_back_hold = platform.hold_backend()
        self._loop = EventLoop()
        upcalls = Upcalls(self._loop, platform)
        self._xenbus = XenbusThread(self._loop)
        self._services = Services(platform, self._loop, upcalls, self._xenbus, settings or Settings())
        self._root = backend_root(platform.domid)
        self._devices: dict[tuple[int, int], Device] = {}
        self._watches: list[Watch] = []
        self._is_search_due = False
        self._failure: Exception | None = None
        self._status: StatusServer | None = None
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until :meth:`stop`. Raises StoreLost when xenstore goes."""
        try:
            store = self._platform.store
            store.on_lost(lambda: self._loop.call_from_thread(self._on_store_lost))
            self._xenbus.start()
            look_at_all = functools.partial(self._xenbus.loop.call_from_thread, self._look_at_all)
            self._watches = [
                store.watch(self._root, self._on_change),
                store.watch("@releaseDomain", lambda _path: look_at_all()),
            ]
            self._loop.run()
            if self._failure is not None:
                raise self._failure
        finally:
            self._close()

    def start(self) -> None:
        """Serve in a thread of its own, until :meth:`stop`."""
        self._thread = threading.Thread(target=self._run_in_thread, name="backend", daemon=True)
        self._thread.start()

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except StoreLost as lost:
            self._failure = lost

    def stop(self) -> None:
        """Stop serving, from any thread or a signal handler; waits for a thread that :meth:`start` began."""
        self._loop.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def serve_status(self, path: str) -> None:
        """Tell who asks at this path what guests and sockets there are; before :meth:`run`. Raises OSError."""
        domid, devices = self._platform.domid, self._devices
        self._status = StatusServer(self._loop, path, lambda: describe(domid, list(devices.values())))

    def call(self, callback: Callable[[], None]) -> None:
        """Call once in the backend's own thread, while it serves; safe in any thread or signal handler."""
        self._loop.call_from_thread(callback)

    def set_policy(self, policy: Policy) -> None:
        """Go by another policy from the next call on, in the backend's own thread (:meth:`call`).

        Connections go on; a guest that is above a new limit keeps what it has, and gets no more.
        """
        self._services.settings.policy = policy
        for device in list(self._devices.values()):
            if device.channel is not None:
                device.channel.guest.take_policy()

    def statistics(self) -> dict[int, Statistics]:
        """Return what crossed, by the guest's domid; exact once the backend has stopped."""
        totals: dict[int, Statistics] = {}
        for device in list(self._devices.values()):
            total = totals.setdefault(device.guest_id, Statistics())
            total.add(device.past)
            if device.channel is not None:
                total.add(device.channel.guest.current_statistics())
        return totals

    def _on_store_lost(self) -> None:
        self._failure = StoreLost("EIO", detail="the connection to xenstore is gone, and with it all guests")
        self._loop.stop()

    def _on_change(self, path: str) -> None:
        self._xenbus.loop.call_from_thread(lambda: self._look_at(path))

    def _look_at(self, path: str) -> None:
        """Something changed at or below our root: tell the device it belongs to, or search for new ones."""
        parts = path.removeprefix(self._root).strip("/").split("/")
        if len(parts) >= 2 and _NUMBER.fullmatch(parts[0]) and _NUMBER.fullmatch(parts[1]):
            device = self._devices.get((int(parts[0]), int(parts[1])))
            if device is not None and not device.is_gone:
                device.look_soon()
                return
        if not self._is_search_due:
            self._is_search_due = True
            self._xenbus.loop.call_soon(self._search)

    def _search(self) -> None:
        self._is_search_due = False
        for guest_id, device_id in self._listed_devices():
            known = self._devices.get((guest_id, device_id))
            if known is None or known.is_gone:
                self._take_device(guest_id, device_id)
        self._look_at_all()

    def _take_device(self, guest_id: int, device_id: int) -> None:
        device = Device(self._services, guest_id, device_id)
        for other in self._devices.values():
            if other.guest_id == guest_id and not other.is_gone and other.device_id != device_id:
                self._devices[guest_id, device_id] = device
                device.refuse(f"domain {guest_id} has a PV Calls device already")  # XS-4 (E-DEVID)
                return
        known = self._devices.get((guest_id, device_id))
        if known is not None:
            device.past = known.past
        self._devices[guest_id, device_id] = device
        device.open()

    def _listed_devices(self) -> list[tuple[int, int]]:
        store, found = self._platform.store, []
        try:
            for guest in filter(_NUMBER.fullmatch, store.list(self._root)):
                try:
                    names = store.list(f"{self._root}/{guest}")
                except StoreNoEntry:
                    continue
                found += [(int(guest), int(name)) for name in names if _NUMBER.fullmatch(name)]
        except StoreNoEntry:
            pass
        return sorted(found)

    def _look_at_all(self) -> None:
        for device in self._devices.values():
            if not device.is_gone:
                device.look_soon()

    def _close(self) -> None:
        # A store that does not answer holds nobody up for longer than this: all it is asked fails then.
        hurry = threading.Timer(_CLOSING_SECONDS, self._platform.store.close)
        hurry.daemon = True
        hurry.start()
        try:
            self._let_go()
        finally:
            self._give_back_hold()
            hurry.cancel()

    def _let_go(self) -> None:
        if self._status is not None:
            self._status.close()
        for watch in self._watches:
            with contextlib.suppress(StoreError):
                watch.cancel()
        self._services.upcalls.close()  # First: its thread works too.
        self._xenbus.close()
        for device in self._devices.values():
            try:
                device.close()
            except StoreError:
                pass  # The store is gone: what there was to let go of is let go.
        self._loop.close()
