"""The frontend: the PV Calls device of this domain, connected to its backend, and where its sockets come from.

Spec: Xenstore; Commands Ring.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from refimpl.data_ring.indexes_page import MAX_RING_ORDER, PageLayout
from refimpl.data_ring.notification import NotifyConsumer
from refimpl.errors import DeviceGone, ForkedDomain, Misuse
from refimpl.frontend.arrival import ARRIVAL_SECONDS, await_device
from refimpl.frontend.device import Options
from refimpl.frontend.lifecycle import Lifecycle, end_earlier_life
from refimpl.frontend.names import Address, resolve
from refimpl.frontend.observing import Observer, Statistics, Tally
from refimpl.frontend.socket import DEFAULT_BACKLOG, LINGER_SECONDS, Socket
from refimpl.frontend.spare_rings import SPARE_RINGS
from refimpl.platform import Platform
from refimpl.xenstore.state_machine import XenbusState


class Frontend:
    """This domain's PV Calls device, connected to its backend; from :meth:`open`. A context manager.

    Any number of threads may use it and its sockets. When the backend closes or vanishes, all of them raise
    :class:`~refimpl.errors.DeviceGone`; open the device again once there is a backend.

    The backend's domain sees and can change every byte: where it is not trusted, speak TLS above (SEC-F-15).
    """

    def __init__(self, platform: Platform, device_id: int, options: Options) -> None:
        self._platform = platform
        self._tally = Tally()
        self._lifecycle = Lifecycle(platform, device_id, options, self._tally)
        self._device = self._lifecycle.bring_up()

    @classmethod
    def open(
        cls,
        platform: Platform,
        *,
        device_id: int = 0,
        ring_order: int | None = None,
        notify_consumer: NotifyConsumer = NotifyConsumer.FULL_ONLY,
        draft_layout: PageLayout | None = None,
        timeout: float = 10.0,
        arrival_timeout: float = ARRIVAL_SECONDS,
        observer: Observer | None = None,
        death_notice: bool = True,
        spare_rings: int = SPARE_RINGS,
        poll_first: bool | None = None,
    ) -> Self:
        """Bring the device up, whatever state an earlier frontend left it in, and return it once it is Connected.

        ``ring_order`` is the log2 of a data ring's pages; the backend's limit and the platform's room may make it less.
        ``draft_layout`` is the layout of the indexes page for a backend of a draft of the protocol, which cannot tell.
        ``timeout`` (seconds) is for this call, and then for whatever a backend should do at once; before it the
        toolstack has ``arrival_timeout`` to make the device. ``death_notice``, on Xen, uses a byte of the commands
        ring's padding to let our own backend hear of this process's death in a domain that lives on. So many
        ``spare_rings`` at most are kept for sockets to come when theirs are closed. ``poll_first`` has accept ask by
        POLL until there is a connection, and only then send ACCEPT: Linux's backend does not survive a listener's
        RELEASE with an ACCEPT outstanding. It costs a command an accept, and is on where a backend may be Linux's,
        which is on Xen.

        Raises TimeoutError, DeviceGone (there is no device), DeviceInUse (another process has it), PlatformUnavailable
        (a kernel's driver has it), PeerViolation (a backend we cannot talk to), LimitReached, StoreError, and Misuse
        where the device is open already.
        """
        if ring_order is not None and not 1 <= ring_order <= MAX_RING_ORDER:  # IDXPAGE-5, IDXPAGE-19
            raise Misuse(f"ring_order is 1 to {MAX_RING_ORDER}, not {ring_order}")
        if poll_first is None:
            poll_first = platform.default_poll_first
        options = Options(
            ring_order, notify_consumer, draft_layout, timeout, observer, death_notice, spare_rings, poll_first
        )
        with _one_at_a_time(platform):
            await_device(platform, device_id, arrival_timeout)
            end_earlier_life(platform)
            return cls(platform, device_id, options)

    # Sockets.

    def socket(self) -> Socket:
        """Make a socket, neither bound nor connected."""
        return Socket.create(self._device)

    def create_connection(self, address: Address, timeout: float | None = None) -> Socket:
        """Return a socket connected to ``(host, port number)``, trying each IPv4 address of the name in turn.

        ``timeout`` is for each attempt, and stays the socket's.
        """
        failure: OSError | None = None
        for target in resolve(address):
            socket = self.socket()
            try:
                socket.settimeout(timeout)
                socket.connect_to(target)
            except OSError as error:
                socket.close()
                failure = error
            except BaseException:
                socket.close()
                raise
            else:
                return socket
        assert failure is not None
        raise failure

    def create_server(self, address: Address, backlog: int = DEFAULT_BACKLOG) -> Socket:
        """Return a socket listening on ``(host, port number)`` of the backend's domain; host ``""`` is any address."""
        socket = self.socket()
        try:
            socket.bind(address)
            socket.listen(backlog)
        except BaseException:
            socket.close()
            raise
        return socket

    # The device.

    @property
    def state(self) -> XenbusState:
        """Our own XenBus state."""
        return self._lifecycle.state

    @property
    def is_open(self) -> bool:
        """Whether sockets can be made and used."""
        return self._device.gone is None

    @property
    def backend_id(self) -> int:
        """The domid of the backend."""
        return self._lifecycle.backend_id

    @property
    def statistics(self) -> Statistics:
        """What crossed so far."""
        sums = self._tally.snapshot()
        sums.notifications_received = self._device.events.received - self._device.events_before
        for ring in self._device.live_rings():
            sums.bytes_sent += ring.bytes_sent
            sums.bytes_received += ring.bytes_received
            sums.notifications_sent += ring.notifications
        return sums

    def close(self, linger: float = LINGER_SECONDS) -> None:
        """Close all sockets, each as :meth:`Socket.close` does it, then the device. A second call does nothing.

        ``linger`` seconds are for all of them together; then the backend has the time-out of :meth:`open`.
        """
        device = self._device
        if isinstance(device.gone, ForkedDomain):
            raise device.error()
        deadline = time.monotonic() + linger
        for socket in tuple(device.sockets):
            socket.close(max(0.0, deadline - time.monotonic()))
        device.fail(DeviceGone("the frontend was closed"))
        self._lifecycle.wait_until_closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def _one_at_a_time(platform: Platform) -> Iterator[None]:
    """Hold what only one thread may for one platform. Raises Misuse if another does."""
    with _opening_lock:
        if platform in _opening:
            raise Misuse(f"the PV Calls device of domain {platform.domid} is being opened by another thread")  # XS-4
        _opening.add(platform)
    try:
        yield
    finally:
        _opening.discard(platform)


_opening_lock = threading.Lock()
_opening: weakref.WeakSet[Platform] = weakref.WeakSet()
