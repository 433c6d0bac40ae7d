"""The guest that probes a backend: a raw frontend, with what its probes have in common.

It needs nobody's help: whatever a TCP connection needs at its other end is a socket of this same guest, so every
connection goes from this guest through the backend to its own loopback address, and back to this guest.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from refimpl.conform.backend.sockets import Active, Passive, Stream
from refimpl.conform.probes import Failed, expect
from refimpl.errors import RefimplError
from refimpl.platform import Platform
from refimpl.testing import raw
from refimpl.testing.hostile import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISING, DataRing
from refimpl.testing.hostile_frontend import HostileFrontend

#: TCP port numbers that guests of ours listen on.
_PORT_NUMBERS = range(20_000, 32_000)
_IN_USE = -98


class Guest:
    """A guest, its device brought up raw by :meth:`connect`; ``host`` is the backend's address it listens on."""

    def __init__(self, platform: Platform, *, host: str = "127.0.0.1", patience: float = 5.0) -> None:
        self.platform = platform
        self.host = host
        self.patience = patience
        self.backend_id = int(platform.store.read(f"{self.path}/backend-id"))
        self._front: HostileFrontend | None = None
        self._numbers = itertools.count(1)
        self._port_numbers = iter(random.sample(_PORT_NUMBERS, len(_PORT_NUMBERS)))
        self._sockets: list[Active | Passive] = []
        self._deadline = float("inf")

    # The device.

    @property
    def path(self) -> str:
        """The device's directory."""
        return f"/local/domain/{self.platform.domid}/device/pvcalls/0"

    @property
    def front(self) -> HostileFrontend:
        """The raw frontend of this connection, which waits no longer than the probe may take."""
        if self._front is None:
            self._front = HostileFrontend(self.platform, self.backend_id, patience=self.patience)
            self._front.look_every = 0.05  # Whether events come is a matter of its own: see :meth:`hears`.
        self._front.patience = max(0.05, min(self.patience, self._deadline - time.monotonic()))
        return self._front

    def start_anew(self) -> None:
        """Bring both ends to where a connection starts, from wherever an earlier one left them: InitWait."""
        front = self.front
        own = int(self.platform.store.read(f"{self.path}/state") or b"6")
        if own not in (INITIALISING, CLOSED):
            if own != CLOSING:
                front.set_state(CLOSING)
            front.await_state(INITIALISING, INIT_WAIT, CLOSING, CLOSED)
            front.set_state(CLOSED)
            own = CLOSED
        if own == CLOSED:
            front.await_state(INITIALISING, INIT_WAIT, CLOSED)
            front.set_state(INITIALISING)
        front.await_state(INIT_WAIT)

    def connect(self) -> None:
        """Go to Connected, from wherever the device is."""
        self.start_anew()
        self.front.connect()

    def disconnect(self) -> None:
        """Leave the device Closed, as far as the backend follows, and give back what was granted."""
        with suppress(AssertionError, RefimplError):
            if self.front.other_node("state") is not None:
                self.front.set_state(CLOSING)
                self.front.await_state(CLOSING, CLOSED)
                self.front.set_state(CLOSED)
                self.front.await_state(CLOSED, INIT_WAIT)
        self.drop()

    def begin_again(self) -> None:
        """Leave the device Closed and have the same page and ports ready for another connection."""
        self.front.set_state(CLOSED)
        self.front.await_state(CLOSED)
        self._sockets.clear()
        self.front.begin_again()

    def drop(self) -> None:
        """Give back what was granted and allocated, with no word to the backend."""
        self._sockets.clear()
        if self._front is not None:
            self._front.close()
            self._front = None

    @property
    def is_connected(self) -> bool:
        """Whether both ends are Connected, as xenstore has it."""
        own = self.platform.store.read_or_none(f"{self.path}/state")
        return own == b"%d" % CONNECTED and self.front.other_node("state") == own

    def begin(self, seconds: float) -> None:
        """Bound all waits together, from now on."""
        self._deadline = time.monotonic() + seconds

    def clean_up(self) -> None:
        """Release what sockets are left. Raises AssertionError where the backend does not answer."""
        self._deadline = float("inf")
        for each in list(self._sockets):
            each.close()

    # Requests.

    def number(self) -> int:
        """Return a number not used before: a req_id, or an id."""
        return next(self._numbers)

    def ask(self, make: Callable[..., bytes], *arguments: object, **more: object) -> raw.RawResponse:
        """Send the request that ``make(req_id, ...)`` makes, and wait for its response; req_id and cmd must be its."""
        req_id = self.number()
        slot = make(req_id, *arguments, **more)
        self.front.push(slot)
        answer = self.answer(req_id)
        expect("the response's cmd", answer.cmd, raw.RawRequest(slot).cmd)
        return answer

    def push(self, make: Callable[..., bytes], *arguments: object, **more: object) -> int:
        """Send a request and return its req_id; :meth:`answer` waits for the response."""
        req_id = self.number()
        self.front.push(make(req_id, *arguments, **more))
        return req_id

    def answer(self, req_id: int) -> raw.RawResponse:
        """Wait for the response to a request. Raises Failed where it does not come."""
        try:
            return self.front.await_response(req_id)
        except AssertionError as lost:
            if (self.front.commands["rsp_prod"] - self.front.rsp_cons) % 2**32 > raw.SLOTS:
                raise
            raise Failed("a request is not answered in time") from lost

    def is_answered(self, req_id: int) -> bool:
        """Say whether the response to a request comes while another request is asked and answered."""
        with suppress(AssertionError):
            self.ask(raw.release_request, self.number())
        return self.front.has_response(req_id)

    def quiet(self) -> None:
        """Take the events that are there."""
        while fired := self.platform.wait(0):
            for port in fired:
                self.platform.rearm(port)

    def hears(self, port: int) -> bool:
        """Wait for an event; say whether there was one in time."""
        deadline = time.monotonic() + self.front.patience
        while (left := deadline - time.monotonic()) > 0:
            fired = self.platform.wait(left)
            for each in fired:
                self.platform.rearm(each)
            if port in fired:
                return True
        return False

    def count_events(self, port: int, seconds: float) -> int:
        """Take events for so long; return how many came on this port."""
        count, deadline = 0, time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for each in self.platform.wait(left):
                self.platform.rearm(each)
                count += each == port
        return count

    # Sockets.

    def socket(self, id: int | None = None) -> int:
        """Make a socket; return its id. Raises Failed where the backend does not."""
        id = self.number() if id is None else id
        expect("ret of SOCKET AF_INET, SOCK_STREAM, 0", self.ask(raw.socket_request, id).ret, 0)
        self.adopt(Active(self, id, None))
        return id

    def adopt(self, socket: Active | Passive) -> None:
        """Have a socket released after the probe."""
        self._sockets = [each for each in self._sockets if each.id != socket.id] + [socket]

    def forget(self, socket: Active | Passive) -> None:
        """Know a socket no more: it was released."""
        self._sockets = [each for each in self._sockets if each is not socket]

    def bound(self) -> tuple[int, int]:
        """Make a socket with an address of its own; return its id and its TCP port number."""
        id = self.socket()
        for number in self._port_numbers:
            ret = self.ask(raw.bind_request, id, self.address(number)).ret
            if ret != _IN_USE:
                expect(f"ret of BIND to {self.host}, a port number of its own", ret, 0)
                return id, number
        raise Failed(f"no port number of {_PORT_NUMBERS} is free at {self.host}")

    def listener(self, backlog: int = 5) -> Passive:
        """Make a socket that listens."""
        id, number = self.bound()
        expect("ret of LISTEN", self.ask(raw.listen_request, id, backlog).ret, 0)
        passive = Passive(self, id, number)
        self.adopt(passive)
        return passive

    def address(self, port_number: int, family: int = 2) -> bytes:
        """Make the 28 bytes of an address at the backend."""
        return raw.address(self.host, port_number, family)

    def ring(self, order: int = 1, **more: object) -> DataRing:
        """Grant a data ring; see :meth:`HostileFrontend.make_data_ring`."""
        return self.front.make_data_ring(order, **more)  # type: ignore[arg-type]

    def active(self, port_number: int, ring: DataRing | None = None, **more: int) -> Active:
        """Make a socket and connect it to an address of this guest's. Raises Failed where it is not connected."""
        active = Active(self, self.socket(), ring or self.ring())
        self.adopt(active)
        expect("ret of CONNECT to a socket that listens", active.connect(port_number, **more), 0)
        return active

    def nobody(self) -> int:
        """Return a TCP port number of the backend's that no one listens on, nor can while this probe lasts."""
        return self.bound()[1]

    def connect_to(self, port_number: int, ring: DataRing | None = None, **more: int) -> int:
        """CONNECT a socket of its own; return ret."""
        active = Active(self, self.socket(), ring or self.ring())
        self.adopt(active)
        return active.connect(port_number, **more)

    def stream(self, order: int = 1, rings: Sequence[DataRing | None] = (None, None)) -> Stream:
        """Make two ends of one TCP connection: one was connected, the other accepted."""
        listener = self.listener()
        near = self.active(listener.port_number, rings[0] or self.ring(order))
        return Stream(near, listener.accept(rings[1] or self.ring(order)), listener)
