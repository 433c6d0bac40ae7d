"""A run with a guest's frontend, and a backend whose every byte the test writes."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refimpl.errors import StoreError
from refimpl.frontend import Frontend, Socket
from refimpl.shm import ShmPlatform
from refimpl.testing import DataRing, HostileBackend, raw
from refimpl.testing.doing import Doing
from refimpl.testing.hostile import CLOSING
from refimpl.testing.running_host import running_host
from refimpl.toolstack import attach, introduce_domain_nodes

PATIENCE = 30.0
ADDRESS = ("192.0.2.1", 80)


class Machine:
    """A run with domain 0 and one guest in this process. The guest has a device, not used yet."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.run = run = str(folder / "run")
        self._stack = stack
        self.hosting = stack.enter_context(contextlib.ExitStack())
        self.hosting.enter_context(running_host(run))
        self.zero = stack.enter_context(ShmPlatform.join(run, domid=0, arena_pages=1024))
        self.guest = self.join()
        attach(self.zero.store, self.guest.domid)

    def join(self) -> ShmPlatform:
        """A new domain with its own nodes, and no device."""
        platform = self._stack.enter_context(ShmPlatform.join(self.run, arena_pages=4096))
        introduce_domain_nodes(self.zero.store, platform.domid)
        return platform

    def backend(self) -> HostileBackend:
        """A backend at the very beginning: nothing published, no state of its own yet."""
        return self._stack.enter_context(HostileBackend(self.zero, self.guest.domid, patience=PATIENCE))

    def open(self, **options: Any) -> Frontend:
        """Open the guest's frontend, and see to it that it ends with the test."""
        options.setdefault("timeout", PATIENCE)
        options.setdefault("arrival_timeout", 0.0)
        options.setdefault("ring_order", 1)
        frontend = Frontend.open(self.guest, **options)
        self._stack.callback(frontend.close, 0.0)
        return frontend


class Pair:
    """A frontend connected to a backend that answers when the test says so."""

    def __init__(self, machine: Machine, **options: Any) -> None:
        self.machine = machine
        self.backend = machine.backend()
        self.backend.publish()
        opening = Doing(machine.open, **options)
        self.backend.connect()
        self.frontend: Frontend = opening.result()

    def answered(self, function: Callable[..., Any], *arguments: Any, ret: int = 0) -> Any:
        """Make a call whose one request is answered with ``ret``; return its result."""
        doing = Doing(function, *arguments)
        self.backend.answer(self.backend.await_request(), ret)
        return doing.result()

    def socket(self) -> Socket:
        socket: Socket = self.answered(self.frontend.socket)
        return socket

    def connected(self) -> tuple[Socket, DataRing]:
        """Return a connected socket and its data ring as the backend sees it."""
        socket = self.socket()
        connecting = Doing(socket.connect, ADDRESS)
        asked = self.backend.await_request()
        ring = self.backend.map_data_ring(asked)
        self.backend.answer(asked)
        connecting.result()
        return socket, ring

    def listening(self) -> Socket:
        socket = self.socket()
        self.answered(socket.bind, ("", 8080))
        self.answered(socket.listen)
        return socket

    def await_commands(self, count: int) -> list[raw.RawRequest]:
        """Wait for so many requests and take them."""
        return [self.backend.await_request() for _ in range(count)]

    def no_request(self) -> bool:
        """Whether nothing waits on the commands ring."""
        return self.backend.req_cons == self.backend.commands["req_prod"]

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for what no event tells of."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "not in time"
            for port in self.backend.platform.wait(0.002):
                self.backend.platform.rearm(port)

    def go_away(self) -> None:
        """Let the backend close; the frontend's sockets are dead then."""
        with contextlib.suppress(StoreError):
            self.backend.set_state(CLOSING)


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="refimpl-frontend-"))
    try:
        with contextlib.ExitStack() as stack:
            yield Machine(folder, stack)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def paired(machine: Machine) -> Iterator[Callable[..., Pair]]:
    """Make a connected pair, with options of Frontend.open."""
    pairs = []

    def make(**options: Any) -> Pair:
        pairs.append(Pair(machine, **options))
        return pairs[-1]

    yield make
    for each in pairs:
        each.go_away()


@pytest.fixture
def pair(paired: Callable[..., Pair]) -> Pair:
    return paired()


@pytest.fixture
def do() -> type[Doing]:
    """Make a call in a thread of its own."""
    return Doing
