"""Look after all guests: a device for each new one, and nothing left of the dead."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from refimpl.errors import StoreError, StoreExists, StoreLost
from refimpl.platform import Store, Watch
from refimpl.toolstack.devices import Device, attach, devices, devices_of
from refimpl.toolstack.domains import delete_domain, introduce_domain_nodes, listed_domids
from refimpl.toolstack.removal import REMOVAL_SECONDS, delete, is_closed, tell_to_close

_RETRY_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Change(NamedTuple):
    """What :class:`Toolstack` did: ``"attached"`` a device to a guest, or ``"removed"`` a dead one's nodes."""

    what: str
    domid: int


class _Removal(NamedTuple):
    device: Device
    deadline: float
    watch: Watch


class Toolstack:
    """Give each new guest a device, and remove what the dead leave.

    Fits any loop: nothing here waits for a backend. ``wake`` is called, from the store's thread, when :meth:`handle`
    has something to do; call it also when :meth:`seconds_left` are over. Or let :meth:`run` do both in a thread.
    ``list_domains`` gives the numbers that may have a domain, those below ``/local/domain`` if not told otherwise:
    xenstore itself says only that some domain came or went. Not for use beside xl, whose guests it would take for its
    own.
    """

    def __init__(
        self,
        store: Store,
        *,
        backend_id: int = 0,
        wake: Callable[[], None] | None = None,
        list_domains: Callable[[Store], Iterable[int]] = listed_domids,
    ) -> None:
        self._store = store
        self._backend_id = backend_id
        self._list_domains = list_domains
        self._due: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wake = wake or self._note
        self._is_closed = self._is_running = False
        self._removals: list[_Removal] = []
        self._leaving: set[int] = set()
        self._retry_at: float | None = None
        introduce_domain_nodes(store, 0)
        self._guests = {device.frontend_id for device in devices(store)}
        store.on_lost(self._wake)
        self._watches = [
            store.watch(path, lambda _path: self._wake()) for path in ("@introduceDomain", "@releaseDomain")
        ]

    def handle(self) -> list[Change]:
        """Do what there is to do now; return what was done. What xenstore refuses is tried again. Raises StoreLost."""
        self._retry_at = None
        present = {domid for domid in self._list_domains(self._store) if domid and self._store.is_introduced(domid)}
        for domid in sorted(self._guests - present):
            self._guests.discard(domid)
            self._leaving.add(domid)
            self._attempt(self._begin_removals, domid)
        changes = []
        for domid in sorted(self._leaving):
            changes += self._attempt(self._finish_removals, domid)
        for domid in sorted(present - self._guests - self._leaving):
            changes += self._attempt(self._take_in, domid)
        return changes

    def _attempt(self, step: Callable[[int], list[Change]], domid: int) -> list[Change]:
        try:
            return step(domid)
        except StoreLost:
            raise
        except StoreError as error:
            _log.warning("domain %d: %s; trying again", domid, error)
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            return []

    def seconds_left(self) -> float | None:
        """Return after how many seconds :meth:`handle` has to be called, None if only when ``wake`` says so."""
        deadlines = [removal.deadline for removal in self._removals]
        if self._retry_at is not None:
            deadlines.append(self._retry_at)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def run(self, report: Callable[[Change], None] = lambda change: None) -> None:
        """Handle all that comes until :meth:`close`, in this thread; only without a ``wake`` of one's own."""
        self._is_running = True
        try:
            while not self._is_closed:
                for change in self.handle():
                    report(change)
                with suppress(queue.Empty):
                    self._due.get(timeout=self.seconds_left())
        finally:
            self._is_running = False
            self._cancel_watches()

    def close(self) -> None:
        """Stop; devices and guests stay as they are. A second call does nothing.

        Ends :meth:`run` from any thread, and from a signal's handler.
        """
        self._is_closed = True
        self._wake()
        if not self._is_running:  # Else the signal may have come in the middle of a request.
            self._cancel_watches()

    def _note(self) -> None:
        if self._due.empty():
            self._due.put(None)  # Not an Event: setting one in a signal's handler can wait for itself.

    def _cancel_watches(self) -> None:
        for watch in (*self._watches, *(removal.watch for removal in self._removals)):
            watch.cancel()

    def _take_in(self, domid: int) -> list[Change]:
        introduce_domain_nodes(self._store, domid)
        try:
            attach(self._store, domid, self._backend_id)
        except StoreExists:  # Somebody did it by hand.
            self._guests.add(domid)
            return []
        self._guests.add(domid)
        return [Change("attached", domid)]

    def _begin_removals(self, domid: int) -> list[Change]:
        for device in devices_of(self._store, domid):
            tell_to_close(self._store, device, force=True)
            watch = self._store.watch(f"{device.backend_path}/state", lambda _path: self._wake())
            self._removals.append(_Removal(device, time.monotonic() + REMOVAL_SECONDS, watch))
        return []

    def _finish_removals(self, domid: int) -> list[Change]:
        pending = [removal for removal in self._removals if removal.device.frontend_id == domid]
        for removal in pending:
            if not is_closed(self._store, removal.device) and time.monotonic() < removal.deadline:
                return []
            delete(self._store, removal.device)
            removal.watch.cancel()
            self._removals.remove(removal)
        delete_domain(self._store, domid)
        self._leaving.discard(domid)
        return [Change("removed", domid)]
