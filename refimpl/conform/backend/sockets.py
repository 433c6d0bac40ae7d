"""The sockets of the guest that probes a backend, each with the requests it takes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refimpl.conform.probes import expect
from refimpl.testing import raw
from refimpl.testing.hostile import DataRing

if TYPE_CHECKING:
    from refimpl.conform.backend.guest import Guest

#: ENOTCONN: the end of a stream, in in_error.
END = -107


class Active:
    """A socket that is, or can be, connected; ``ring`` is its data ring."""

    def __init__(self, guest: Guest, id: int, ring: DataRing | None) -> None:
        self._guest = guest
        self.id = id
        self._ring = ring

    @property
    def ring(self) -> DataRing:
        """Its data ring."""
        if self._ring is None:
            raise AssertionError("a probe asks for the ring of a socket that has none")
        return self._ring

    @property
    def page(self) -> raw.IndexesPage:
        """Its indexes page."""
        return self.ring.indexes

    def connect(self, port_number: int, **more: int) -> int:
        """CONNECT to an address of this guest's; return ret."""
        guest, ring = self._guest, self.ring
        address = guest.address(port_number)
        ret: int = guest.ask(raw.connect_request, self.id, address, ring.ref, ring.port, **more).ret
        return ret

    def send(self, value: bytes) -> None:
        """Produce bytes in ``out`` and notify."""
        self.ring.produce("out", value)
        self._guest.platform.fences.full()
        self._guest.front.notify(self.ring.port)

    def await_sent(self) -> None:
        """Wait until the backend has taken all of ``out``."""
        page = self.page
        self._guest.front.await_true(lambda: page["out_cons"] == page["out_prod"], "taking of what is in out")

    @property
    def available(self) -> int:
        """The bytes in ``in``."""
        return (self.page["in_prod"] - self.page["in_cons"]) % 2**32

    def receive(self, count: int) -> bytes:
        """Wait for ``count`` bytes in ``in``, or the end, and consume them; notify if the ring had been full."""
        received = b""
        while len(received) < count:
            self._guest.front.await_true(lambda: self.available or self.error("in"), f"{count} bytes in in")
            if not self.available:
                break
            was_full = self.available >= self.ring.half_bytes
            received += self.ring.consume("in")
            self._guest.platform.fences.full()
            if was_full:
                self._guest.front.notify(self.ring.port)
        return received

    def error(self, half: str) -> int:
        """Read ``in_error`` or ``out_error``."""
        return self.page.error(f"{half}_error")

    def await_error(self, half: str) -> int:
        """Wait until an error word is set; return it."""
        self._guest.front.await_true(lambda: self.error(half), f"{half}_error")
        return self.error(half)

    def release(self, **more: int) -> raw.RawResponse:
        """RELEASE; give back the ring once it is answered."""
        answer = self._guest.ask(raw.release_request, self.id, **more)
        self._guest.forget(self)
        return answer

    def close(self) -> None:
        """Release it and give its ring back."""
        self.release()
        if self._ring is not None and self._ring in self._guest.front.rings:
            self._guest.front.rings.remove(self._ring)
            self._guest.platform.close_port(self._ring.port)
            self._ring.release()


class Passive:
    """A socket that listens on ``port_number``."""

    def __init__(self, guest: Guest, id: int, port_number: int) -> None:
        self._guest = guest
        self.id = id
        self.port_number = port_number
        self._pending: list[tuple[int, int, DataRing]] = []
        self._is_polled = False

    def start_accept(self, ring: DataRing | None = None, id_new: int | None = None) -> int:
        """Send ACCEPT; return its req_id, for :meth:`end_accept`."""
        ring = ring or self._guest.ring()
        id_new = self._guest.number() if id_new is None else id_new
        req_id = self._guest.push(raw.accept_request, self.id, id_new, ring.ref, ring.port)
        self._pending.append((req_id, id_new, ring))
        return req_id

    def end_accept(self, req_id: int) -> tuple[int, Active]:
        """Wait for ACCEPT's response; return ret, and what is a socket if that is 0."""
        answer = self._guest.answer(req_id)
        asked = next(each for each in self._pending if each[0] == req_id)
        self._pending.remove(asked)
        accepted = Active(self._guest, asked[1], asked[2])
        if answer.ret == 0:
            self._guest.adopt(accepted)
        return answer.ret, accepted

    def accept(self, ring: DataRing | None = None) -> Active:
        """ACCEPT a connection that waits. Raises Failed where there is none."""
        ret, accepted = self.end_accept(self.start_accept(ring))
        expect("ret of ACCEPT", ret, 0)
        return accepted

    def poll(self) -> int:
        """Send POLL; return its req_id."""
        self._is_polled = True
        return self._guest.push(raw.poll_request, self.id)

    def close(self) -> None:
        """Release it. What was asked and not answered is answered first: not every backend survives the contrary."""
        if self._pending or self._is_polled:
            for req_id, _, _ in list(self._pending):
                if not self._guest.front.has_response(req_id):
                    self._guest.active(self.port_number)
                with suppress(AssertionError):
                    self.end_accept(req_id)
            if self._is_polled:
                self._guest.active(self.port_number)
        self._guest.ask(raw.release_request, self.id)
        self._guest.forget(self)


@dataclass
class Stream:
    """Two ends of one TCP connection: ``near`` was connected, ``far`` accepted from ``listener``."""

    near: Active
    far: Active
    listener: Passive

    @property
    def ways(self) -> tuple[tuple[Active, Active], tuple[Active, Active]]:
        """From which end to which, both ways."""
        return (self.near, self.far), (self.far, self.near)
