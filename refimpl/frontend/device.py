"""One connection to a backend, from Initialised to Closed: what its sockets share.

It ends once, for whatever reason, and stays ended: its sockets then deliver the data they had already received and
raise DeviceGone. A frontend that opens the device again has a new one of these.

Spec: Xenstore > State Machine; Commands Ring.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refimpl.commands.ring import NOTICE_BYTE, FrontRing
from refimpl.data_ring.indexes_page import PUBLISHED, PageLayout
from refimpl.data_ring.notification import NotifyConsumer
from refimpl.errors import DeviceGone, ForkedDomain
from refimpl.frontend.calls import Calls
from refimpl.frontend.observing import Event, Observer, Tally
from refimpl.frontend.spare_rings import SPARE_RINGS, SpareRings
from refimpl.frontend.waiting import Events
from refimpl.platform import Platform

if TYPE_CHECKING:
    from refimpl.frontend.data_ring import DataRing
    from refimpl.frontend.socket import Socket


@dataclass(frozen=True, slots=True)
class Options:
    """How a frontend was asked to be.

    ``timeout`` is how many seconds a backend may leave a command unanswered that needs no waiting, and a state change.
    ``death_notice`` lets our own backend hear of this process's death in a domain that lives on. ``spare_rings`` are
    kept for sockets to come. ``poll_first`` sends ACCEPT only once POLL says that there is a connection.
    """

    ring_order: int | None = None
    notify_consumer: NotifyConsumer = NotifyConsumer.FULL_ONLY
    draft_layout: PageLayout | None = None
    timeout: float = 10.0
    observer: Observer | None = None
    death_notice: bool = True
    spare_rings: int = SPARE_RINGS
    poll_first: bool = False


class Device:
    """The device while it is connected to the backend in domain ``peer``.

    Grants the commands ring's page and allocates its event channel: ``ring_ref`` and ``port`` are for xenstore.
    ``on_failure()`` is called when the device ends by :meth:`fail`.
    """

    def __init__(self, platform: Platform, peer: int, options: Options, tally: Tally) -> None:
        self.platform = platform
        self.peer = peer
        self.options = options
        self.tally = tally
        self.observer = options.observer
        self.events = Events.of(platform)
        #: What the platform's event channels had received before this device was there.
        self.events_before = self.events.received
        self.ring_order = 1
        self.page_layout = PUBLISHED
        self.gone: Exception | None = None
        self.on_failure: Callable[[], None] = _nothing
        #: The sockets that are open.
        self.sockets: set[Socket] = set()
        # All data rings, also those of an ACCEPT or CONNECT in flight.
        self._rings: set[DataRing] = set()
        self._rings_lock = threading.Lock()
        self.spare_rings = SpareRings(options.spare_rings)
        self._ids = itertools.count(1)
        self._page = platform.grant(peer, 1)  # FNODE-4, FNODE-5, RING-2, SEC-F-8
        try:
            self.port = platform.allocate_unbound(peer)  # FNODE-3
        except BaseException:
            self._page.end()
            raise
        ring = FrontRing(self._page.memory, platform.fences, peer)
        ring.initialise()  # STATE-3
        if options.death_notice and self._page.leave_notice(clear_byte=NOTICE_BYTE, send_event=self.port):
            self._page.memory[NOTICE_BYTE] = 1
        self.calls = Calls(self, ring, self.port, options.timeout)
        _devices.add(self)

    @property
    def ring_ref(self) -> int:
        """The grant of the commands ring's page."""
        return self._page.refs[0]

    def new_id(self) -> int:
        """Return an id that no socket of this device has had."""
        return next(self._ids)  # SOCKET-2, ACCEPT-2

    def observe(self, section: str, what: str) -> None:
        """Tell the observer, where there is one."""
        if self.observer is not None:
            self.observer(Event(section, what))

    def check(self) -> None:
        """Raise DeviceGone if the device is gone."""
        if self.gone is not None:
            raise self.error() from self.gone

    def error(self) -> Exception:
        """Return what a call on the device gone raises."""
        if isinstance(self.gone, ForkedDomain):
            return ForkedDomain(*self.gone.args)
        return DeviceGone(errno.EIO, f"the PV Calls device is gone: {self.gone}")  # (E-PENDING-CLOSE)

    def fail(self, reason: Exception) -> None:
        """End the device: every call on it, waiting or to come, raises DeviceGone; data already here stays readable."""
        if self.gone is None:
            self.gone = reason
            self.on_failure()
        self.events.wake_all()

    def add(self, ring: DataRing) -> None:
        """Remember a data ring, to be taken down with the device. Raises DeviceGone."""
        with self._rings_lock:
            self.check()
            self._rings.add(ring)
        self.tally.add_connection()

    def forget(self, ring: DataRing) -> None:
        """Forget a data ring that was taken down."""
        with self._rings_lock:
            self._rings.discard(ring)

    def live_rings(self) -> list[DataRing]:
        """Return the data rings that are up."""
        with self._rings_lock:
            return list(self._rings)

    def free(self) -> None:
        """Unbind every event channel and end every grant; a second call does nothing. :meth:`fail` comes first."""
        for ring in self.live_rings():
            ring.take_down(self.error(), keep_input=True)  # STATE-10
        self.spare_rings.end()  # STATE-10
        self.calls.release()
        self.events.close_port(self.port)
        self._page.end()

    def disown(self) -> None:
        """In a forked child: own nothing, touch nothing, and wait for no thread that is not here."""
        self.gone = ForkedDomain("a forked child has none of its parent's sockets")
        self.events.forget_threads()
        self.calls.disown()
        self._rings_lock = threading.Lock()
        self.spare_rings.disown()
        for ring in self._rings:
            ring.disown(self.error())


def _nothing() -> None:
    """Nobody asked to be told."""


_devices: weakref.WeakSet[Device] = weakref.WeakSet()


def _disown_all() -> None:
    for device in list(_devices):
        device.disown()


os.register_at_fork(after_in_child=_disown_all)
