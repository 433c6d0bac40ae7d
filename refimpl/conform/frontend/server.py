"""The backend that observes a frontend: it serves what comes, by raw bytes, and writes down all it sees."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from refimpl.conform.frontend.driver import REFUSED
from refimpl.conform.frontend.observed import Asked, Observed, SeenRing
from refimpl.conform.frontend.ring import ServedRing, words_of
from refimpl.conform.frontend.services import Service
from refimpl.errors import PortRefused, RefimplError
from refimpl.platform import Platform
from refimpl.testing import raw
from refimpl.testing.hostile import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, INITIALISING
from refimpl.testing.hostile_backend import HostileBackend
from refimpl.testing.raw import RawRequest

MAX_PAGE_ORDER = 9
NODES = ("version", "ring-ref", "port")
WORDS = ("in_cons", "in_prod", "in_error", "out_cons", "out_prod", "out_error")
#: Seconds: between looks at xenstore; after which a request that came with no event counts as not notified of; that a
#: connection to a listener takes to come; and that a RELEASE waits for its reply, while its grants are looked at.
_LOOK, _SILENCE, _ARRIVAL, _RELEASE = 0.02, 0.5, 0.1, 0.05
_EFAULT, _EINVAL, _ECONNREFUSED, _ENOTSUP, _EBADF = -14, -22, -111, -524, -9


class Server:
    """Serves the frontend of one guest, from its first state to its last; :attr:`observed` is what was seen."""

    def __init__(self, platform: Platform, guest: int, say: Callable[[str], None]) -> None:
        self._platform = platform
        self._say = say
        self._back = HostileBackend(platform, guest)
        self.observed = Observed(MAX_PAGE_ORDER)
        self._kinds: dict[int, str] = {}
        self._rings: dict[int, ServedRing] = {}
        #: Requests that wait for a connection: (when it comes, request); RELEASEs that wait for their reply.
        self._waiting: list[tuple[float, RawRequest]] = []
        self._releasing: list[tuple[float, RawRequest]] = []
        self._in_flight: set[int] = set()
        self._unheard_since: float | None = None
        self._is_done = False
        #: Whether the commands ring makes no sense any more.
        self._is_broken = False

    # The device.

    def serve(self, until: Callable[[], bool]) -> None:
        """Serve until the frontend is Closed, or its driver says it is done, or ``until()`` says so."""
        try:
            if self._await_frontend(until) and self._connect():
                while not until() and not self._is_done and self._look_at_state() in (INITIALISED, CONNECTED):
                    self._round()
            if self.observed.nodes:
                self._finish()
        finally:
            for served in self._rings.values():
                served.close()
            self._rings.clear()
            self._back.close()

    def _await_frontend(self, until: Callable[[], bool]) -> bool:
        """Bring the device, wherever it is, to a frontend that is Initialised; return False where none comes."""
        self._back.publish({"max-page-order": MAX_PAGE_ORDER})
        own = INIT_WAIT
        while not until():
            state = self._look_at_state()
            if state == INITIALISED:
                return True
            answer = {CLOSING: CLOSING, CLOSED: CLOSED, INITIALISING: INIT_WAIT, CONNECTED: CLOSING}.get(state, own)
            if answer != own and not (state == INITIALISING and own == INIT_WAIT):
                own = answer
                if own == INIT_WAIT:
                    self._back.publish({"max-page-order": MAX_PAGE_ORDER})
                else:
                    self._back.set_state(own)
            time.sleep(_LOOK)
        return False

    def _look_at_state(self) -> int:
        """Read the frontend's state, and remember it where it is another."""
        value = self._back.other_node("state")
        state = int(value) if value is not None and value.isdigit() else CLOSED
        if not self.observed.states or self.observed.states[-1] != state:
            self.observed.states.append(state)
        return state

    def _read_nodes(self) -> dict[str, bytes | None]:
        return {name: self._back.other_node(name) for name in NODES}

    def _connect(self) -> bool:
        """Use what the frontend published; return False where it cannot be used."""
        observed = self.observed
        observed.nodes = self._read_nodes()
        try:
            self._back.connect()
        except (RefimplError, ValueError, OverflowError) as wrong:
            observed.complain("FNODE-4", f"what was published cannot be used: {wrong}")
            return False
        observed.ring_words = {name: self._back.commands[name] for name in raw.COMMANDS_WORDS}
        observed.state_at_connected = self._look_at_state()
        self._say("Connected")
        return True

    def _finish(self) -> None:
        """Answer the frontend's Closing, or go to Closing ourselves where it does not (E-BCLOSE)."""
        patience = time.monotonic() + 3.0
        while self._look_at_state() == CONNECTED and time.monotonic() < patience:
            self._round()
        self.observed.nodes_at_end = self._read_nodes()
        by_us = self._look_at_state() in (INITIALISED, CONNECTED)
        for served in self._rings.values():
            served.look_at_end()
            served.close()
        self._rings.clear()
        self._back.close()
        self._back.set_state(CLOSING)
        patience = time.monotonic() + 5.0
        while self._look_at_state() not in (CLOSED, INITIALISING) and time.monotonic() < patience:
            time.sleep(_LOOK)
        if by_us:
            self.observed.answered_our_closing = self.observed.states[-1]
        self._back.set_state(CLOSED)

    # Rounds.

    def _round(self) -> None:
        fired = set(self._platform.wait(_LOOK))
        if self._is_heard(fired):
            while taken := self._take():  # Again, until none came before req_event was seen.
                for slot in taken:
                    self._serve_request(slot)
        for port, served in [(served.ring.port, served) for served in self._rings.values()]:
            served.serve(was_notified=port in fired)
        for port in fired:
            self._platform.rearm(port)
        self._answer_what_waits()

    def _is_heard(self, fired: set[int]) -> bool:
        """Say whether requests are to be taken: an event came, or none did for long, which is a complaint."""
        if self._is_broken:
            return False
        if self._back.port in fired:
            self._unheard_since = None
            return True
        if self._back.commands["req_prod"] == self._back.req_cons:
            self._unheard_since = None
            return False
        if "RING-12" in self.observed.complaints:
            return True  # Known by now: this frontend is served all the same.
        now = time.monotonic()
        self._unheard_since = self._unheard_since or now
        if now - self._unheard_since < _SILENCE:
            return False
        self.observed.complain("RING-12", "a request was published past req_event, and no event came")
        self._unheard_since = None
        return True

    def _take(self) -> list[RawRequest]:
        ahead = (self._back.commands["req_prod"] - self._back.req_cons) % 2**32
        in_flight = self._back.req_cons - self._back.commands["rsp_prod"] + ahead
        if ahead > raw.SLOTS or in_flight % 2**32 > raw.SLOTS:
            self.observed.complain("RING-1", f"req_prod is {ahead} ahead: more requests than slots")
            self._is_done = self._is_broken = True
            return []
        first = self._back.req_cons
        taken = self._back.take_requests()
        for place, request in enumerate(taken):
            was = self._kinds.get(request.id, "")
            self.observed.requests.append(Asked(first + place, request, frozenset(self._in_flight), was))
            self._in_flight.add(request.req_id)
        return taken

    def _reply(self, request: RawRequest, ret: int = 0) -> None:
        self._in_flight.discard(request.req_id)
        self._back.answer(request, ret)

    # Requests.

    def _serve_request(self, request: RawRequest) -> None:
        actions: dict[int, Callable[[RawRequest], None]] = {
            raw.SOCKET: self._socket,
            raw.CONNECT: self._on_connect,
            raw.RELEASE: self._release,
            raw.BIND: self._bind,
            raw.LISTEN: self._listen,
            raw.ACCEPT: self._wait_for_connection,
            raw.POLL: self._wait_for_connection,
        }
        action = actions.get(request.cmd)
        if action is None:
            self._reply(request, _ENOTSUP)
        else:
            action(request)

    def _socket(self, request: RawRequest) -> None:
        if request.id in self._kinds:
            self.observed.complain("SOCKET-2", f"SOCKET with id {request.id:#x}, which names a socket already")
        self._kinds[request.id] = "socket"
        self._reply(request)

    def _on_connect(self, request: RawRequest) -> None:
        (port_number,) = struct.unpack_from(">H", request.raw, 18)
        if port_number == REFUSED:
            self._reply(request, _ECONNREFUSED)
        else:
            self._reply(request, self._set_up(request, request.id, port_number))

    def _bind(self, request: RawRequest) -> None:
        self._kinds[request.id] = "bound"
        self._reply(request)

    def _listen(self, request: RawRequest) -> None:
        if self._kinds.get(request.id) != "bound":
            self.observed.complain("BIND-2", "LISTEN of a socket that is not bound")
        self._kinds[request.id] = "listening"
        self._reply(request)

    def _wait_for_connection(self, request: RawRequest) -> None:
        if self._kinds.get(request.id) != "listening":
            self.observed.complain("POLL-1" if request.cmd == raw.POLL else "BIND-2", "the socket does not listen")
            self._reply(request, _EINVAL)
        else:
            self._waiting.append((time.monotonic() + _ARRIVAL, request))

    def _release(self, request: RawRequest) -> None:
        for waiting in [each for each in self._waiting if each[1].id == request.id]:
            self._waiting.remove(waiting)
            self._reply(waiting[1], _EBADF)
        self._releasing.append((time.monotonic() + _RELEASE, request))

    def _answer_what_waits(self) -> None:
        now = time.monotonic()
        for due, request in [each for each in self._waiting if each[0] <= now]:
            self._waiting.remove((due, request))
            if request.cmd == raw.POLL:
                self._reply(request)
            else:
                (id_new,) = struct.unpack_from("<Q", request.raw, 16)
                if id_new in self._kinds:
                    self.observed.complain("ACCEPT-2", f"ACCEPT with id_new {id_new:#x}, which names a socket already")
                self._reply(request, self._set_up(request, id_new, 0))
        for due, request in [each for each in self._releasing if each[0] <= now]:
            self._releasing.remove((due, request))
            self._let_go(request.id)
            self._kinds.pop(request.id, None)
            self._reply(request)

    def _let_go(self, id: int) -> None:
        served = self._rings.pop(id, None)
        if served is None:
            return
        served.serve(was_notified=True)
        served.look_at_end()
        with suppress(RefimplError):
            served.seen.held_until_reply = False
            self._platform.map(self._back.frontend_id, [served.seen.ref, *served.seen.refs]).unmap()
            served.seen.held_until_reply = True
        served.close()

    def _set_up(self, request: RawRequest, id: int, service: int) -> int:
        """Map what CONNECT or ACCEPT names, and begin to serve it; return ret."""
        of_grants, of_port = ("CONNECT-4", "CONNECT-3") if request.cmd == raw.CONNECT else ("ACCEPT-5", "ACCEPT-4")
        try:
            ring = self._back.map_data_ring(request)
        except PortRefused as refused:
            self.observed.complain(of_port, f"evtchn cannot be bound: {refused}")
            return _EINVAL
        except (RefimplError, ValueError, OverflowError) as wrong:
            self.observed.complain(of_grants, f"the data ring cannot be mapped: {wrong}")
            return _EFAULT
        self._back.rings.remove(ring)
        order = ring.indexes["ring_order"]
        refs = tuple(ring.indexes.refs(1 << order))
        seen = SeenRing(request.cmd, request.ref, request.evtchn, order, refs, words_of(ring, WORDS))
        self.observed.rings.append(seen)
        self._rings[id] = ServedRing(self._platform, ring, Service(service, self._told), self.observed, seen)
        self._kinds[id] = "active"
        return 0

    def _told(self, told: dict[str, Any]) -> None:
        self._is_done = self._is_done or bool(told.get("done"))
        self.observed.told.update(told)
        for name, value in told.items():
            self._say(f"the driver: {name}: {value}")
