"""The store, and with it the hypervisor's stand-in, killed or stopped when the backend begins each step."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from refimpl.backend import Backend, Settings
from refimpl.backend import backend as backend_module
from refimpl.frontend import Frontend
from refimpl.shm import ShmPlatform
from refimpl.store.client import StoreClient
from refimpl.testing import HostileFrontend, raw
from refimpl.testing.processes import PLACES, DiesAt, End, backend, store, use_every_command
from refimpl.toolstack import attach, introduce_domain_nodes

PATIENCE = 30.0


class Served(NamedTuple):
    """A run whose store and backend are processes."""

    directory: str
    storing: End
    serving: End
    stack: contextlib.ExitStack

    def guest(self) -> ShmPlatform:
        platform = self.stack.enter_context(ShmPlatform.join(self.directory, arena_pages=1024))
        with contextlib.closing(StoreClient.connect(f"{self.directory}/0.socket")) as client:
            introduce_domain_nodes(client, platform.domid)
            attach(client, platform.domid)
        return platform

    def open(self) -> Frontend:
        return Frontend.open(self.guest(), ring_order=1, timeout=PATIENCE)


@contextlib.contextmanager
def served(folder: Path, command: str = "", step: str = "", number: int = signal.SIGKILL) -> Iterator[Served]:
    """Start all; the store gets the signal at that step."""
    directory = str(folder / "run")
    with contextlib.ExitStack() as stack:
        storing = stack.enter_context(End(store, directory))
        assert storing.heard() == "ready"
        serving = stack.enter_context(End(backend, directory, DiesAt(command, step, storing.pid, number)))
        assert serving.heard() == "ready"
        yield Served(directory, storing, serving, stack)


@pytest.mark.spec("STATE-10")
@pytest.mark.parametrize(("command", "step"), PLACES)
def test_a_store_killed_ends_all_and_all_starts_again(folder, echo, command: str, step: str) -> None:
    with served(folder, command, step) as run:
        frontend = run.open()
        with contextlib.suppress(OSError):  # What the store is not needed for may still be done.
            use_every_command(frontend, echo)
        assert run.storing.wait() == -signal.SIGKILL
        assert run.serving.wait() > 0
        frontend.close(0)
    with served(folder) as run, run.open() as again:
        use_every_command(again, echo)


@pytest.mark.parametrize(("command", "step"), PLACES)
def test_a_store_stopped_is_not_missed_by_calls_and_data(folder, echo, command: str, step: str) -> None:
    with served(folder, command, step, signal.SIGSTOP) as run:
        frontend = run.open()
        with frontend.create_connection(echo) as first:
            use_every_command(frontend, echo)
            first.sendall(b"as before")
            assert first.recv(64) == b"as before"
        run.storing.signal(signal.SIGCONT)
        frontend.close()


@pytest.mark.security("SEC-B-1", "SEC-B-14", "SEC-B-19")
def test_a_backend_that_waits_for_a_stopped_store_moves_the_data_of_all(folder, echo) -> None:
    with served(folder) as run:
        frontend = run.open()
        with HostileFrontend(run.guest(), patience=PATIENCE) as liar, frontend.create_connection(echo) as connection:
            liar.connect()
            assert liar.call(raw.socket_request(1, 1)).ret == 0
            run.storing.signal(signal.SIGSTOP)
            liar.commands["req_prod"] = 2**31  # The backend has something to write to xenstore.
            liar.notify()
            for turn in range(200):
                message = b"%d" % turn * 100
                connection.sendall(message)
                answer = b""
                while len(answer) < len(message):
                    answer += connection.recv(4096)
                assert answer == message
            use_every_command(frontend, echo)
            run.storing.signal(signal.SIGCONT)
            assert liar.await_state(5) == 5
        with run.open() as other:
            use_every_command(other, echo)
        frontend.close()


def test_a_backend_that_waits_for_a_stopped_store_ends_when_told(folder, monkeypatch) -> None:
    monkeypatch.setattr(backend_module, "_CLOSING_SECONDS", 0.2)
    with served(folder) as run:
        run.serving.go_on()  # Its word to stop: another takes its place, in this process.
        assert run.serving.wait() == 0
        zero = run.stack.enter_context(ShmPlatform.join(run.directory, domid=0, arena_pages=64, store_timeout=600))
        serving = Backend(zero, Settings())
        serving.start()
        liar = run.stack.enter_context(HostileFrontend(run.guest(), patience=PATIENCE))
        liar.connect()
        assert liar.call(raw.socket_request(1, 1)).ret == 0
        run.storing.signal(signal.SIGSTOP)
        try:
            liar.commands["req_prod"] = 2**31
            liar.notify()
            serving.stop()
        finally:
            run.storing.signal(signal.SIGCONT)
