"""One PV Calls device of one guest: the backend's way through the XenBus state machine.

Whatever a watch says, the device re-reads both states and does what the table of ``xenstore/state_machine.py`` has for
them, until there is nothing to do; in the thread that may wait for xenstore. Paths and domids come from the backend's
own directory, which the guest can't write.

Spec: Xenstore > State Machine, the backend's part.
"""

from __future__ import annotations

import functools

from refimpl.backend.commands_channel import CommandsChannel, RingLink
from refimpl.backend.guest import Services, Statistics
from refimpl.backend.loop import Timer
from refimpl.errors import (
    PeerViolation,
    PlatformError,
    StoreAccessRefused,
    StoreError,
    StoreLost,
    StoreNoEntry,
)
from refimpl.platform import Store, StoreView, Watch
from refimpl.xenstore import frontend_nodes
from refimpl.xenstore.backend_nodes import BackendNodes
from refimpl.xenstore.frontend_nodes import FrontendNodes
from refimpl.xenstore.paths import backend_error_path, backend_path, frontend_path
from refimpl.xenstore.state_machine import BACKEND, Action, XenbusState, actions, format_state, parse_state

_MOST_RECONNECTS = 8
_RECONNECT_WINDOW_SECONDS = 1.0
_RETRY_SECONDS = 1.0
_LONGEST_ERROR = 512
#: States of our own node from which a new backend can't go on: an earlier one died there, or the toolstack ended it.
_LEFT_BEHIND = (XenbusState.CONNECTED, XenbusState.CLOSING, XenbusState.INITIALISED)


class Device:
    """The backend's side of ``backend/pvcalls/<guest>/<device_id>``, from first sight to removal."""

    def __init__(self, services: Services, guest_id: int, device_id: int) -> None:
        self._services = services
        self._store: Store = services.platform.store
        self._xenbus = services.xenbus
        self.guest_id = guest_id
        self.device_id = device_id
        self.path = backend_path(services.platform.domid, guest_id, device_id)
        self._frontend_path = frontend_path(guest_id, device_id)  # SEC-B-8
        self.state = XenbusState.UNKNOWN
        self.is_gone = False
        self.channel: CommandsChannel | None = None
        #: Totals of connections that are over; the one there is has its own.
        self.past = Statistics()
        self._recent_starts = 0
        self._deadline: Timer | None = None
        self._is_look_due = self._is_look_asked = False
        self._is_refused = False
        self._frontend_watch: Watch | None = None

    def open(self) -> None:
        """Begin to watch the frontend, and look."""
        self._frontend_watch = self._store.watch(f"{self._frontend_path}/state", self._on_frontend_change)
        self.look_soon()

    def refuse(self, reason: str) -> None:
        """Do not serve this device: say why in xenstore, and go to Closed."""
        self._is_refused = True
        self._warn(reason)
        try:
            self._write_error(reason)
            self._go(XenbusState.CLOSED)
        except StoreError:
            self._vanish()

    def _on_frontend_change(self, _path: str) -> None:
        if not self._is_look_asked:  # Nothing piles up while xenstore takes its time.
            self._is_look_asked = True
            self._xenbus.loop.call_from_thread(self._look_as_asked)

    def _look_as_asked(self) -> None:
        self._is_look_asked = False
        self.look_soon()

    def look_soon(self) -> None:
        """Look once in the next turn, however often this is called before (SEC-B-18)."""
        if not self._is_look_due and not self.is_gone:
            self._is_look_due = True
            self._xenbus.loop.call_soon(self._look)

    def _look(self) -> None:
        self._is_look_due = False
        if self.is_gone:
            return
        try:
            self._follow_own_directory()
            while not (self.is_gone or self._is_refused) and self._take_actions(self._read_frontend_state()):
                pass
        except (StoreNoEntry, StoreAccessRefused):
            self._vanish()
        except StoreLost:
            raise
        except StoreError as error:
            self._warn(str(error))
            self._xenbus.loop.call_later(_RETRY_SECONDS, self.look_soon)

    def _follow_own_directory(self) -> None:
        """Take note of what the toolstack did to our own directory: made it, told us to close, removed it."""
        raw_state = self._store.read_or_none(f"{self.path}/state")
        if raw_state is None:
            self._vanish()
            return
        found = parse_state(raw_state)
        if self.state is XenbusState.UNKNOWN:
            self.state = XenbusState.CLOSING if found in _LEFT_BEHIND else found
            if self.state is XenbusState.INIT_WAIT:
                self.state = XenbusState.INITIALISING  # An earlier backend published; so do we, before we go on.
            if self.state is not found and self.state is XenbusState.CLOSING:
                self._go(XenbusState.CLOSING)  # E-RECONNECT
        elif found is XenbusState.CLOSING and self.state is not XenbusState.CLOSING:
            self._close_for_the_toolstack()

    def _close_for_the_toolstack(self) -> None:
        was_connected = self.channel is not None
        self._disconnect()
        self.state = XenbusState.CLOSING
        if was_connected:  # E-BCLOSE: the frontend has some time to close too.
            settings = self._services.settings
            seconds = settings.policy.limits_of(self.guest_id, settings.limits).closing_seconds
            self._deadline = self._xenbus.loop.call_later(seconds, self._close_alone)
        else:
            self._go(XenbusState.CLOSED)

    def _close_alone(self) -> None:
        if self.state is XenbusState.CLOSING and not self.is_gone:
            try:
                self._go(XenbusState.CLOSED)
            except (StoreNoEntry, StoreAccessRefused):
                self._vanish()

    def _read_frontend_state(self) -> XenbusState:
        if not self._store.is_introduced(self.guest_id):
            return XenbusState.CLOSED  # SEC-B-19 (E-FASTCLOSE)
        try:
            raw = self._store.read_or_none(f"{self._frontend_path}/state")
            return parse_state(raw, peer=self.guest_id)  # SEC-B-19
        except PeerViolation as violation:
            self._give_up(violation)
            return XenbusState.UNKNOWN

    def _take_actions(self, frontend: XenbusState) -> bool:
        """Carry out what the table has for the two states; returns whether that was anything."""
        due = actions(BACKEND, self.state, frontend)
        if Action.PUBLISH in due and not self._may_start():
            return False
        for action in due:
            if not self._take_action(action):
                return False
        return bool(due)

    def _take_action(self, action: Action) -> bool:
        if action is Action.PUBLISH:
            self._publish()
        elif action is Action.CONNECT:
            return self._connect()
        elif action is Action.DISCONNECT:
            self._disconnect()
        elif action.next_state is not None:
            self._go(action.next_state)
        return True

    def _may_start(self) -> bool:
        """Bound how often a guest may start over: past that it waits its time (SEC-B-18)."""
        self._recent_starts += 1
        if self._recent_starts == 1:
            self._xenbus.loop.call_later(_RECONNECT_WINDOW_SECONDS, self._forget_recent_starts)
        return self._recent_starts <= _MOST_RECONNECTS

    def _forget_recent_starts(self) -> None:
        was_held = self._recent_starts > _MOST_RECONNECTS
        self._recent_starts = 0
        if was_held:
            self.look_soon()

    def _publish(self) -> None:
        settings = self._services.settings
        nodes = BackendNodes(settings.max_ring_order).to_nodes(draft_nodes=settings.draft_nodes)

        def write(view: StoreView) -> None:
            for name, value in nodes.items():
                view.write(f"{self.path}/{name}", value)  # BNODE-1, BNODE-3, BNODE-5, BNODE-8

        self._store.transact(write)

    def _connect(self) -> bool:
        """Take the frontend's nodes, map its ring and bind its event channel."""
        try:
            read = self._store.read_or_none
            found = {name: read(f"{self._frontend_path}/{name}") for name in frontend_nodes.NAMES}
            nodes = FrontendNodes.from_nodes(found, peer=self.guest_id)  # STATE-4, STATE-5
            link = RingLink(self.guest_id, self._services.platform, nodes)
        except (PeerViolation, PlatformError) as error:
            self._give_up(error)
            return False
        self._xenbus.in_turn(functools.partial(self._open_channel, link))
        return True

    def _open_channel(self, link: RingLink) -> None:
        self.channel = CommandsChannel(link, self._services, self._on_channel_end)
        self._services.loop.call_soon(self._serve_early_requests)

    def _serve_early_requests(self) -> None:
        if self.channel is not None:
            self.channel.serve()  # E-EARLY-REQ

    def _disconnect(self) -> None:
        self._xenbus.in_turn(self._close_channel)

    def _close_channel(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.past.add(self.channel.guest.statistics)
        self.channel = None

    def _on_channel_end(self, reason: Exception) -> None:
        """The channel can't go on: it ends in this turn of the data's; xenstore is told when it has time."""
        self._close_channel()
        self._xenbus.loop.call_from_thread(functools.partial(self._give_up_connection, reason))

    def _give_up_connection(self, reason: Exception) -> None:
        if self.state is XenbusState.CONNECTED and self.channel is None:  # And not over, or another, by now.
            self._give_up(reason)

    def _give_up(self, error: Exception) -> None:
        """End a connection the guest has broken: say why, disconnect, go to Closing."""
        if self.is_gone or self.state is XenbusState.CLOSING:
            return
        self._warn(str(error))
        self._disconnect()
        try:
            self._write_error(str(error))
            self._go(XenbusState.CLOSING)
        except StoreError:
            self._vanish()

    def _write_error(self, reason: str) -> None:
        path = backend_error_path(self._services.platform.domid, self.guest_id, self.device_id)
        self._store.write(path, reason.encode("ascii", "replace")[:_LONGEST_ERROR])

    def _warn(self, message: str) -> None:
        observer = self._services.settings.observer
        if observer is not None:
            self._xenbus.in_turn(lambda: observer.warned(self.guest_id, message))

    def _go(self, state: XenbusState) -> None:
        self.state = state
        if state in (XenbusState.CLOSED, XenbusState.INIT_WAIT) and self._deadline is not None:
            self._deadline.cancel()

        observer = self._services.settings.observer
        if observer is not None:
            self._xenbus.in_turn(lambda: observer.state_changed(self.guest_id, state))

        def write(view: StoreView) -> None:
            view.read(f"{self.path}/state")  # StoreNoEntry: removed; writing would make it again.
            view.write(f"{self.path}/state", format_state(state))

        self._store.transact(write)

    def _vanish(self) -> None:
        """The device is removed: let go of everything."""
        self._disconnect()
        self.is_gone = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._frontend_watch is not None:
            self._frontend_watch.cancel()

    def close(self) -> None:
        """The backend stops: disconnect, and tell the frontend by going to Closing."""
        if self.is_gone:
            return
        self._disconnect()
        try:
            if self.state not in (XenbusState.CLOSING, XenbusState.CLOSED, XenbusState.UNKNOWN):
                self._go(XenbusState.CLOSING)  # E-BCLOSE
        except StoreError:
            pass
        self._vanish()
