"""The device's life, as the state machine has it: brought up, followed, and taken down.

    frontend                                          backend
    Initialising                                      Initialising, InitWait
    read its nodes, grant the ring's page,
    allocate its event channel, publish both
    Initialised                                  -->  map, bind
    Connected                                    <--  Connected
    Closing                                      -->  unmap, unbind
    free rings and channels, Closed              <--  Closing

What to do when is a table (:mod:`refimpl.xenstore.state_machine`); here it is done: until Connected in the caller's
thread, then in a thread of our own, which does nothing but wait for xenstore.

Spec: Xenstore > State Machine.
"""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress

from refimpl.data_ring.indexes_page import PUBLISHED
from refimpl.errors import DeviceGone, Misuse, PeerViolation, RefimplError
from refimpl.frontend.device import Device, Options
from refimpl.frontend.observing import BACKEND_NODES, FRONTEND_NODES, STATE_MACHINE, Event, Tally
from refimpl.frontend.xenbus import Xenbus
from refimpl.platform import Platform
from refimpl.xenstore.frontend_nodes import FrontendNodes
from refimpl.xenstore.state_machine import FRONTEND, FRONTEND_SHUTDOWN, Action, XenbusState, actions

_S = XenbusState
#: Where a backend is once it has let go of an earlier frontend.
_BACKEND_HAS_LET_GO = frozenset({_S.CLOSING, _S.CLOSED, _S.INITIALISING, _S.INIT_WAIT})
#: From where a backend follows a frontend that starts anew.
_BACKEND_CAN_START = frozenset({_S.CLOSED, _S.INITIALISING, _S.INIT_WAIT})


class Lifecycle:
    """One life of the device, from :meth:`bring_up` to Closed.

    Raises DeviceInUse where another process has the device, PlatformUnavailable where a kernel's driver has it.
    """

    def __init__(self, platform: Platform, device_id: int, options: Options, tally: Tally) -> None:
        self._platform = platform
        self._options = options
        self._tally = tally
        self._let_go = platform.hold_frontend(device_id)
        try:
            self._xenbus = Xenbus(platform, device_id)
        except BaseException:
            self._let_go()
            raise
        self._device: Device | None = None
        self._give_up_at: float | None = None
        self._thread = threading.Thread(target=self._follow_backend, name="pvcalls-xenbus", daemon=True)
        #: Our own XenBus state.
        self.state = _S.INITIALISING

    @property
    def backend_id(self) -> int:
        """The domid of the backend."""
        return self._xenbus.backend_id

    def bring_up(self) -> Device:
        """Go to Connected, from wherever an earlier frontend left the device, within the options' time-out.

        Raises TimeoutError, PeerViolation, LimitReached, StoreError, with nothing kept.
        """
        deadline = time.monotonic() + self._options.timeout
        try:
            self._start_anew(deadline)
            while self.state is not _S.CONNECTED or self._device is None:
                if self.state is _S.CLOSED:  # The backend closed meanwhile.
                    self._start_anew(deadline)
                if not self._step():
                    self._wait_for_backend(deadline, "Connected")
        except BaseException as error:
            if isinstance(error, PeerViolation):
                self._xenbus.report(error)
            self._abandon(error if isinstance(error, Exception) else DeviceGone("interrupted"))
            raise
        self._thread.start()
        _lives.add(self)
        return self._device

    def wait_until_closed(self) -> None:
        """Wait until the device, which has failed or was closed, is Closed: a backend has the options' time-out."""
        self._xenbus.stir()
        self._thread.join()

    # In the thread of bring_up.

    def _start_anew(self, deadline: float) -> None:
        """Go to Initialising, from wherever this or an earlier frontend left the device (E-RECONNECT)."""
        self.state = self._xenbus.read_own_state()
        if self.state not in (_S.INITIALISING, _S.CLOSED):
            if self.state is not _S.CLOSING:
                self._go(_S.CLOSING)  # STATE-8
            while self._xenbus.read_backend_state() not in _BACKEND_HAS_LET_GO:
                self._wait_for_backend(deadline, "Closing")
            self._go(_S.CLOSED)  # STATE-10: what there was to free went with the earlier frontend
        if self.state is _S.CLOSED:
            while self._xenbus.read_backend_state() not in _BACKEND_CAN_START:
                self._wait_for_backend(deadline, "Closed")
            self._go(_S.INITIALISING)

    def _wait_for_backend(self, deadline: float, state: str) -> None:
        if not self._xenbus.wait_for_change(deadline):
            found = self._xenbus.read_backend_state().name.capitalize()
            raise TimeoutError(
                f"the backend in domain {self.backend_id} did not go to {state} within {self._options.timeout:g} s: "
                f"it is in {found}, we are in {self.state.name.capitalize()}; is it running?"
            )

    # In either.

    def _step(self) -> bool:
        """Carry out what the two states ask for; return whether that was anything."""
        todo = actions(FRONTEND, self.state, self._xenbus.read_backend_state())
        for action in todo:
            self._carry_out(action)
        return bool(todo)

    def _carry_out(self, action: Action) -> None:
        if action.next_state is not None:
            self._go(action.next_state)
        elif action is Action.PUBLISH:
            self._publish()
        elif action is Action.FREE:
            self._free(DeviceGone("the backend closed"))
        # CONNECT needs nothing more: all that the backend has to say was read before we published. STATE-6

    def _go(self, state: XenbusState) -> None:
        self._xenbus.write_own_state(state)
        self.state = state
        self._observe(STATE_MACHINE, f"frontend goes to {state.name.capitalize()}")

    def _publish(self) -> None:
        """Take what the backend offers, set up our end of the commands ring, and say where it is."""
        offer = self._xenbus.read_backend_nodes()  # STATE-3 (E-PROBE-RACE)
        self._observe(BACKEND_NODES, f"max-page-order {offer.max_page_order}")
        self._device = device = Device(self._platform, self.backend_id, self._options, self._tally)
        wanted = self._options.ring_order or self._platform.default_ring_order
        device.ring_order = min(wanted, offer.max_page_order)  # IDXPAGE-4
        if offer.is_draft:
            device.page_layout = self._options.draft_layout or PUBLISHED
        device.on_failure = self._xenbus.stir
        nodes = FrontendNodes(port=device.port, ring_ref=device.ring_ref)
        self._xenbus.publish(nodes)  # STATE-4
        self._observe(FRONTEND_NODES, f"ring-ref {nodes.ring_ref}, port {nodes.port}")

    def _free(self, reason: Exception) -> None:
        if self._device is not None:
            self._device.fail(reason)
            self._device.free()  # STATE-10

    def _abandon(self, reason: Exception) -> None:
        """Free all that is ours without waiting for anybody, and say so as far as xenstore lets us."""
        with suppress(RefimplError):
            self._free(reason)
        with suppress(RefimplError):
            self._xenbus.write_own_state(_S.CLOSED)
        self.state = _S.CLOSED
        self._xenbus.close()
        self._let_go()

    def _observe(self, section: str, what: str) -> None:
        if self._options.observer is not None:
            self._options.observer(Event(section, what))

    # In our own thread.

    def _follow_backend(self) -> None:
        try:
            while self.state is not _S.CLOSED:
                self._xenbus.wait_for_change(self._give_up_at)
                self._end_if_made_anew()
                self._close_if_failed()
                self._step()
        except Exception as error:
            self._abandon(error)
        finally:
            self._xenbus.close()
            self._let_go()

    def _end_if_made_anew(self) -> None:
        """End a device that is no more ours: its domain was restored, or the toolstack removed it or made it anew.

        What the toolstack makes starts at Initialising; from there whoever opens the device goes on.
        """
        device = self._device
        if device is None or self.state is not _S.CONNECTED or self._xenbus.is_as_we_left_it(_S.CONNECTED):
            return
        device.fail(DeviceGone("it was made anew, as after a restore of the domain"))  # (E-SUSPEND)
        self._platform.catch_up()
        raise device.error()

    def _close_if_failed(self) -> None:
        """Start the shutdown once the device has failed or was closed; end it alone if the backend stays silent."""
        device = self._device
        if device is None or device.gone is None:
            return
        if self.state is _S.CONNECTED:
            if isinstance(device.gone, PeerViolation):
                self._xenbus.report(device.gone)
            for action in FRONTEND_SHUTDOWN:
                self._carry_out(action)  # STATE-8
            self._give_up_at = time.monotonic() + self._options.timeout
        elif self._give_up_at is not None and time.monotonic() >= self._give_up_at:
            self._free(device.gone)  # SEC-F-10
            self._go(_S.CLOSED)


def end_earlier_life(platform: Platform) -> None:
    """Wait until an earlier life of the platform's device, which has failed, is over. Raises Misuse if it has not."""
    for life in tuple(_lives):
        if life._platform is platform and life._thread.is_alive():
            if life._device is not None and life._device.gone is None:
                raise Misuse(f"the PV Calls device of domain {platform.domid} is open already")  # XS-4
            life.wait_until_closed()


_lives: weakref.WeakSet[Lifecycle] = weakref.WeakSet()
