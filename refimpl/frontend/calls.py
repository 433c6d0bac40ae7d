"""Commands in flight: requests sent on the commands ring, and their responses as they come, in whatever order.

A response is matched by our own table of req_ids and nothing else; what it echoes is compared, never used. All that a
thread needs of it afterwards is ``ret``.

ACCEPT, POLL and CONNECT may stay unanswered for as long as the world likes. They never take the last two slots of the
ring, so RELEASE can always be sent.

Spec: Commands Ring.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from refimpl.commands.accept import AcceptRequest
from refimpl.commands.bind import BindRequest
from refimpl.commands.connect import ConnectRequest
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.listen import ListenRequest
from refimpl.commands.message import Command, Response
from refimpl.commands.poll import PollRequest
from refimpl.commands.release import ReleaseRequest
from refimpl.commands.ring import RING_SLOTS, FrontRing
from refimpl.commands.socket import SocketRequest
from refimpl.errors import PeerViolation
from refimpl.frontend.observing import SECTION_OF, describe

if TYPE_CHECKING:
    from refimpl.frontend.device import Device

DEFERRABLE = frozenset({Command.ACCEPT, Command.POLL, Command.CONNECT})
#: So many of those may be in flight at one time.
MOST_DEFERRABLE = RING_SLOTS - 2
#: How long a CONNECT of ours may hold up all others where the backend works in order, as Linux's does, in seconds.
CONNECT_PATIENCE_SECONDS = 180.0

Request = SocketRequest | ConnectRequest | ReleaseRequest | BindRequest | ListenRequest | AcceptRequest | PollRequest
#: A request but for its req_id.
MakeRequest = Callable[[int], Request]


class Call:
    """A command in flight, or answered: ``ret`` is None until then, afterwards 0 or a negative error number."""

    __slots__ = ("command", "id", "ret", "sent_at")

    def __init__(self, command: Command, id: int) -> None:
        self.command = command
        self.id = id
        self.ret: int | None = None
        self.sent_at = time.monotonic()


class Calls:
    """The frontend's end of the commands ring, for any number of threads.

    ``patience`` is how long a backend may be silent that owes an answer to a command which needs no waiting, in
    seconds; then it is taken for dead.
    """

    def __init__(self, device: Device, ring: FrontRing, port: int, patience: float) -> None:
        self._device = device
        self._ring = ring
        #: The commands ring's event channel.
        self.port = port
        self._patience = patience
        self._lock = threading.Lock()
        self._in_flight: dict[int, Call] = {}
        self._free_req_ids = list(range(RING_SLOTS - 1, -1, -1))  # (E-REQID)
        self._deferred = 0
        self._answers = 0
        self._last_answer = 0.0

    def ask(self, make: MakeRequest, excuse: Callable[[], bool] | None = None) -> int:
        """Send a command that needs no waiting and return its ``ret``.

        When the backend has been silent for too long, ``excuse()`` says whether it is at work and has as long again.

        Raises DeviceGone, also when the backend stays silent: it is then taken for dead.
        """
        call = self.try_start(make)
        if call is None:
            call = self.start(make, time.monotonic() + self._patience)
        if call is None:
            raise self._give_up("no slot of the commands ring comes free")
        while not self.wait(call, self._silent_at(call)):
            if time.monotonic() < self._silent_at(call):
                continue
            if excuse is None or not excuse():
                raise self._give_up(f"no answer to {call.command.name}")
            call.sent_at = time.monotonic()
        assert call.ret is not None
        return call.ret

    def start(self, make: MakeRequest, deadline: float | None = None) -> Call | None:
        """Send a command once there is a slot for it; return None if the deadline comes first. Raises DeviceGone."""
        started: list[Call] = []

        def look() -> bool:
            call = self.try_start(make)
            if call is not None:
                started.append(call)
            return call is not None

        return started[0] if self._device.events.wait_until((self,), look, deadline) else None

    def try_start(self, make: MakeRequest) -> Call | None:
        """Send a command if there is a slot for it now. Raises DeviceGone."""
        device = self._device
        with self._lock:
            device.check()
            self._collect()
            if not self._free_req_ids:
                return None
            req_id = self._free_req_ids[-1]
            request = make(req_id)  # RING-7
            is_deferrable = request.cmd in DEFERRABLE
            if is_deferrable and self._deferred >= MOST_DEFERRABLE:  # SEC-F-16 (E-INFLIGHT)
                return None
            call = Call(Command(request.cmd), request.id)
            self._free_req_ids.pop()
            self._in_flight[req_id] = call
            self._deferred += is_deferrable
            must_notify = self._ring.push_request(request.to_bytes())  # RAT-1
            if must_notify:
                device.platform.notify(self.port)  # RING-12
        device.tally.add_command(call.command, notified=must_notify)
        if device.observer is not None:
            device.observe(SECTION_OF[call.command], describe(request))
        return call

    def wait(self, call: Call, deadline: float | None = None) -> bool:
        """Wait for the call's answer; return False if the deadline comes first. Raises DeviceGone."""
        return self._device.events.wait_until((self,), lambda: self.look(call), deadline)

    def look(self, call: Call) -> bool:
        """Take what responses there are; return whether the call is answered. Raises DeviceGone."""
        with self._lock:
            if self._device.gone is None:
                self._collect()
        if call.ret is None:
            self._device.check()
            return False
        return True

    def release(self) -> None:
        """Let go of the ring; the device is gone."""
        with self._lock:
            self._ring.release()

    def disown(self) -> None:
        """In a forked child: wait for no thread that is not here."""
        self._lock = threading.Lock()

    # The event channel of the commands ring.

    def activity(self) -> object:
        """Return how many responses came so far."""
        return self._answers

    def is_untaken(self) -> bool:
        """Return False: this ring has event indexes, and needs no second notification."""
        return False

    def renotify(self) -> None:
        """Notify the backend."""
        self._device.platform.notify(self.port)

    # Responses; the lock is held.

    def _collect(self) -> None:
        """Take all responses, and ask for an event with the next."""
        ring = self._ring
        try:
            while True:
                raw = ring.take_response()  # SEC-F-1, SEC-F-2
                if raw is not None:
                    self._answer(Response.from_bytes(raw))
                elif not ring.final_check():
                    return
        except PeerViolation as violation:
            self._device.fail(violation)
            raise self._device.error() from violation

    def _answer(self, response: Response) -> None:
        call = self._in_flight.get(response.req_id)
        if call is None or (response.cmd, response.id) != (call.command, call.id):  # SEC-F-3, RING-7 (E-POLL-ID)
            expected = "no request in flight" if call is None else f"{call.command.name} of socket {call.id}"
            raise PeerViolation("SEC-F-3", "response", str(response), expected, self._device.peer)
        del self._in_flight[response.req_id]
        self._free_req_ids.append(response.req_id)
        self._deferred -= call.command in DEFERRABLE
        self._answers += 1
        self._last_answer = time.monotonic()
        call.ret = response.ret if response.is_well_formed else int(ErrorNumber.EIO)  # SEC-F-4
        if self._device.observer is not None:
            self._device.observe(SECTION_OF[call.command], f"-> {response}")

    def _silent_at(self, call: Call) -> float:
        """Return when the backend, if it says nothing till then, is taken for dead."""
        with self._lock:
            connecting = any(each.command is Command.CONNECT for each in self._in_flight.values())
            patience = max(self._patience, CONNECT_PATIENCE_SECONDS) if connecting else self._patience  # (E-ORDER)
            return max(call.sent_at, self._last_answer) + patience

    def _give_up(self, what: str) -> Exception:
        self._device.fail(TimeoutError(f"{what} for {self._patience:g} s: the backend is taken for dead"))  # SEC-F-10
        return self._device.error()
