"""A machine of our own: a run, a backend in a thread, and guests whose every byte the test writes."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refimpl.backend import Backend, Limits, Policy, Settings
from refimpl.backend.observer import Observer
from refimpl.platform import Platform
from refimpl.shm import ShmPlatform
from refimpl.testing import DataRing, HostileFrontend, raw
from refimpl.testing.running_host import running_host
from refimpl.toolstack import attach, introduce_domain_nodes

PATIENCE = 30.0


def ref_of(ring: DataRing) -> int:
    """The grant of a data ring's indexes page."""
    ref: int = ring.held[0].refs[0]  # type: ignore[union-attr]
    return ref


class Guest(HostileFrontend):
    """A guest by raw bytes, with the calls that tests make most."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform, patience=PATIENCE)
        self._req_ids = itertools.count(1)

    def ask(self, make: Any, *arguments: Any, **more: Any) -> raw.RawResponse:
        """Send a request made by one of ``raw``'s functions; return its response."""
        return self.call(make(next(self._req_ids), *arguments, **more))

    def send(self, make: Any, *arguments: Any, **more: Any) -> int:
        """Send a request and return its req_id; the response is for whoever awaits it."""
        req_id = next(self._req_ids)
        self.push(make(req_id, *arguments, **more))
        return req_id

    def open_socket(self, id: int) -> None:
        assert self.ask(raw.socket_request, id).ret == 0

    def connected(self, id: int, address: tuple[str, int], order: int = 1) -> Any:
        """Connect socket ``id`` and return its data ring."""
        self.open_socket(id)
        ring = self.make_data_ring(order)
        answer = self.ask(raw.connect_request, id, raw.address(*address), ref_of(ring), ring.port)
        assert answer.ret == 0, answer
        return ring

    def accept(self, id: int, id_new: int, order: int = 1) -> tuple[int, Any]:
        """Send ACCEPT; return its req_id and the new data ring."""
        ring = self.make_data_ring(order)
        return self.send(raw.accept_request, id, id_new, ref_of(ring), ring.port), ring

    def put(self, ring: Any, data: bytes) -> None:
        """Put bytes into ``out`` and notify."""
        ring.produce("out", data)
        self.platform.fences.full()
        self.notify(ring.port)

    def fill_out(self, ring: Any) -> None:
        """Put bytes into ``out`` until it stays full: its peer takes none."""
        for _ in range(64):
            space = ring.half_bytes - (ring.indexes["out_prod"] - ring.indexes["out_cons"]) % 2**32
            ring.indexes["out_prod"] = ring.indexes["out_prod"] + space
            self.platform.fences.full()
            self.notify(ring.port)
            self.turn()
        assert (ring.indexes["out_prod"] - ring.indexes["out_cons"]) % 2**32 > 0

    def turn(self) -> None:
        """Return once the backend has had a turn after now."""
        assert self.ask(raw.poll_request, 2**64 - 99).ret == -9

    def await_turns(self, condition: Callable[[], bool]) -> None:
        """Give the backend turns until a condition holds that no event tells of."""
        for _ in range(10_000):
            if condition():
                return
            self.turn()
        raise AssertionError("not after 10000 turns of the backend")

    def await_turns_of_answers(self, answers: list[raw.RawResponse], count: int, patience: int = 10_000) -> None:
        """Collect answers until there are ``count``, or for so many looks at the ring while none comes."""
        for _ in range(patience):
            answers += self.take_responses()
            if len(answers) >= count:
                return
            for port in self.platform.wait(0.005):
                self.platform.rearm(port)

    def take(self, ring: Any, count: int) -> bytes:
        """Take ``count`` bytes out of ``in``, waiting for them and notifying as a frontend does."""
        taken = b""
        while len(taken) < count:
            self.await_turns(lambda: ring.indexes["in_prod"] != ring.indexes["in_cons"])
            taken += ring.consume("in")
            self.platform.fences.full()
            self.notify(ring.port)
        return taken

    def await_error(self, ring: Any, name: str) -> int:
        """Wait until one of the two error words is set; return it."""
        self.await_true(lambda: ring.indexes[name], name)
        error: int = ring.indexes.error(name)
        return error

    def listening(self, id: int) -> tuple[str, int]:
        """Make socket ``id`` listen and return its address."""
        self.open_socket(id)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address: tuple[str, int] = probe.getsockname()
        assert self.ask(raw.bind_request, id, raw.address(*address)).ret == 0
        assert self.ask(raw.listen_request, id).ret == 0
        return address


class Machine:
    """A run with a backend in domain 0; ``guest()`` gives a connected guest, ``add_guest()`` one that is not yet."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, *, selectable: bool) -> None:
        self._run = str(folder / "run")
        self._stack = stack
        self.host = stack.enter_context(running_host(self._run))
        self.platform = stack.enter_context(
            ShmPlatform.join(self._run, domid=0, selectable=selectable, arena_pages=1024)
        )
        self.store = self.platform.store
        self.backend: Backend | None = None

    def serve(self, **settings: Any) -> Backend:
        """Start the backend; everything is allowed unless a policy is given."""
        settings.setdefault("policy", Policy(allow_everything=True))
        self.backend = Backend(self.platform, Settings(**settings))
        self.backend.start()
        self._stack.callback(self.backend.stop)
        return self.backend

    @property
    def platform_directory(self) -> str:
        return self._run

    def held(self) -> tuple[int, int]:
        """How many pages and ports of guests the backend's domain holds, as its tables tell its peers."""
        tables = self.platform._domain.tables
        pages = sum(sum(tables.maps_row(place)) for place, granter in enumerate(tables.granters) if granter)
        return pages, sum(map(bool, tables.bound))

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call when the test is over."""
        self._stack.callback(callback)

    def join(self) -> ShmPlatform:
        return self._stack.enter_context(ShmPlatform.join(self._run, arena_pages=4096))

    def add_guest(self) -> Guest:
        """A guest with a device, its handshake not begun."""
        platform = self.join()
        introduce_domain_nodes(self.store, platform.domid)
        attach(self.store, platform.domid)
        return self._stack.enter_context(Guest(platform))

    def guest(self) -> Guest:
        if self.backend is None:
            self.serve()
        guest = self.add_guest()
        guest.connect()
        return guest


@pytest.fixture
def selectable() -> bool:
    """Whether the backend's domain has a descriptor for its events."""
    return True


@pytest.fixture
def machine(selectable: bool) -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="refimpl-"))
    try:
        with contextlib.ExitStack() as stack:
            yield Machine(folder, stack, selectable=selectable)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def guest(machine: Machine) -> Guest:
    return machine.guest()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """An ordinary listening socket of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


class Record(Observer):
    """Remembers what the backend did."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def state_changed(self, guest: int, state: Any) -> None:
        self.events.append(("state", guest, int(state)))

    def step_begun(self, guest: int, request: Any, step: Any) -> None:
        self.events.append(("step", guest, type(step).__name__))

    def response_put(self, guest: int, request: Any, ret: int, reason: str) -> None:
        self.events.append(("response", guest, ret, reason))

    def warned(self, guest: int, message: str) -> None:
        self.events.append(("warning", guest, message))

    def of(self, kind: str, guest: int) -> list[Any]:
        return [event[2] for event in self.events if event[:2] == (kind, guest)]


@pytest.fixture
def record() -> Record:
    return Record()


__all__ = ["Guest", "Limits", "Machine", "Record"]
