"""One guest as the backend sees it while it is connected: what it holds, and what it may.

The domid that grants are mapped from and event channels are bound to is the device's own, never a request's (SEC-B-8).
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from refimpl.backend.byte_rate import ByteRate
from refimpl.backend.limits import Limits, SharedDescriptors
from refimpl.backend.listeners import Listeners
from refimpl.backend.loop import EventLoop
from refimpl.backend.observer import Observer
from refimpl.backend.policy import ALLOWED, Decision, Policy
from refimpl.backend.rules import CALLS_WITH_ADDRESS, Call
from refimpl.backend.shares import Share, Turns
from refimpl.backend.sockets import SocketEntry, SocketTable
from refimpl.backend.upcalls import Handler, Upcalls
from refimpl.backend.xenbus_thread import XenbusThread
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import CommandRefused, GrantRefused, LimitReached, PortRefused
from refimpl.platform import MappedPages, Platform


@dataclass(slots=True)
class Statistics:
    """What crossed for one guest, in all; a connection's bytes are added when it is over."""

    commands: collections.Counter[str] = field(default_factory=collections.Counter)
    refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    notifications_sent: int = 0

    def add(self, other: Statistics) -> None:
        """Add another's counts to these."""
        self.commands.update(other.commands)
        self.refused += other.refused
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.notifications_sent += other.notifications_sent


@dataclass(slots=True)
class Settings:
    """How a backend serves its guests.

    ``draft_nodes`` publishes the drafts' node names beside the published ones; ``draft_layouts`` lets a frontend use
    the drafts' indexes pages, recognised by their content.
    """

    max_ring_order: int = 9
    limits: Limits = field(default_factory=Limits)
    policy: Policy = field(default_factory=Policy)
    draft_nodes: bool = True
    draft_layouts: bool = False
    observer: Observer | None = None


@dataclass(slots=True)
class Services:
    """What all guests of a backend share."""

    platform: Platform
    loop: EventLoop
    upcalls: Upcalls
    xenbus: XenbusThread
    settings: Settings
    listeners: Listeners = field(default_factory=Listeners)
    turns: Turns = field(init=False)
    descriptors: SharedDescriptors = field(default_factory=SharedDescriptors)

    def __post_init__(self) -> None:
        self.turns = Turns(self.loop)


class Guest:
    """A connected guest: its sockets and its use of the platform."""

    def __init__(self, domid: int, services: Services, ring_ref: int) -> None:
        self.domid = domid
        self.ring_ref = ring_ref
        self.services = services
        self.loop = services.loop
        self.share = Share(services.turns)
        self.platform = services.platform
        self.settings = services.settings
        self.limits = Limits()
        self.observer = services.settings.observer
        self.sockets = SocketTable(self.limits, services.descriptors)
        self.statistics = Statistics()
        self.byte_rate: ByteRate | None = None
        self._pending_connects = 0
        self.take_policy()

    def current_statistics(self) -> Statistics:
        """Return the totals with those of the connections there are now."""
        total = Statistics()
        total.add(self.statistics)
        for entry in self.sockets:
            if entry.connection is not None:
                total.bytes_in += entry.connection.bytes_in
                total.bytes_out += entry.connection.bytes_out
                total.notifications_sent += entry.connection.notifications_sent
        return total

    def map(self, refs: Sequence[int]) -> MappedPages:
        """Map the guest's grants. Raises CommandRefused: EFAULT, ENOMEM."""
        try:
            return self.platform.map(self.domid, refs)  # SEC-B-8, SEC-B-20
        except GrantRefused as refused:
            raise CommandRefused(ErrorNumber.EFAULT, str(refused)) from refused  # E-MAPFAIL, SEC-B-9
        except LimitReached as reached:
            raise CommandRefused(ErrorNumber.ENOMEM, str(reached)) from reached

    def bind(self, evtchn: int) -> int:
        """Bind a port the guest allocated for us; return our own. Raises CommandRefused: EINVAL, ENOBUFS."""
        try:
            return self.platform.bind(self.domid, evtchn)  # SEC-B-8
        except PortRefused as refused:
            raise CommandRefused(ErrorNumber.EINVAL, str(refused)) from refused  # E-MAPFAIL, E-EVTCHN-DUP, SEC-B-10
        except LimitReached as reached:
            raise CommandRefused(ErrorNumber.ENOBUFS, str(reached)) from reached

    def attach(self, port: int, handler: Handler) -> None:
        """Run the handler when our port fires."""
        self.services.upcalls.attach(port, handler, self.share)

    def unbind(self, port: int) -> None:
        """Close our port."""
        self.services.upcalls.detach(port)
        self.platform.close_port(port)

    def notify(self, port: int) -> None:
        """Send an event on our port."""
        self.statistics.notifications_sent += 1
        self.loop.has_told_a_guest = True
        self.platform.notify(port)

    def take_policy(self) -> None:
        """Go by the limits of the policy there is now; what the guest has already, it keeps."""
        limits = self.settings.policy.limits_of(self.domid, self.settings.limits)
        self.limits = self.sockets.limits = limits  # SEC-B-6, SEC-B-24
        former = self.byte_rate.bytes_per_second if self.byte_rate is not None else None
        if limits.bytes_per_second != former:
            rate = limits.bytes_per_second
            self.byte_rate = ByteRate(self.loop, rate) if rate is not None else None
            for entry in self.sockets:
                if entry.connection is not None:
                    entry.connection.pace(self.byte_rate)
                    self.loop.call_soon(entry.connection.resume)

    def decide(self, name: str, request: Any) -> Decision:
        """Return what the policy says of a request; ``name`` is its command's."""
        policy, call_name = self.settings.policy, name.lower()
        if not policy.may_object_to(call_name):
            return ALLOWED
        address = None
        if call_name in CALLS_WITH_ADDRESS:
            try:
                address = InternetAddress.from_request(request.addr, request.len)  # SEC-B-12
            except CommandRefused:
                pass  # The command itself says what is wrong with it.
        call = Call(self.domid, call_name, address, request)
        return policy.decide(call, guest_listens_on=self.services.listeners.reached_by)

    def begin_connect(self) -> None:
        """Count a connect under way. Raises CommandRefused at the guest's limit."""
        if self._pending_connects >= self.limits.pending_connects:
            raise CommandRefused(
                ErrorNumber.ENOBUFS, f"{self._pending_connects} connects are under way, the limit"
            )  # SEC-B-6, SEC-B-24
        self._pending_connects += 1

    def end_connect(self) -> None:
        """Count a connect as ended."""
        self._pending_connects -= 1

    def add_listener(self, entry: SocketEntry, address: InternetAddress) -> None:
        """Let guests connect to what this one listens on."""
        entry.listens_on = address
        self.services.listeners.add(address)

    def forget_listener(self, entry: SocketEntry) -> None:
        """Undo :meth:`add_listener`; of a socket that never listened, nothing."""
        if entry.listens_on is not None:
            self.services.listeners.remove(entry.listens_on)
            self.loop.unwatch(entry.system_socket.fileno())
        entry.listens_on = None
