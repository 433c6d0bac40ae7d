"""A run with the backend in a process of its own, guests in this one, and ordinary TCP peers outside."""

from __future__ import annotations

import contextlib
import queue
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refimpl.cli.processes import Child
from refimpl.frontend import Frontend
from refimpl.shm import ShmPlatform
from refimpl.store.client import StoreClient
from refimpl.testing.doing import Doing
from refimpl.testing.running_host import running_host
from refimpl.toolstack import attach, introduce_domain_nodes

PATIENCE = 30.0


class Run:
    """Store and hypervisor in this process, the backend in another, guests here."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.directory = str(folder / "run")
        self._stack = stack
        host = stack.enter_context(running_host(self.directory))
        self.store = stack.enter_context(contextlib.closing(StoreClient.connect(host.store_path)))
        self.backend: Child | None = None
        stack.callback(self.stop_backend)

    def start_backend(self, *options: str) -> None:
        """Start a backend process, everything allowed, and wait until it serves."""
        arguments = ("backend", "--run", self.directory, "--platform", "shm", "--allow-everything", *options)
        self.backend = Child(*arguments, waits_until_ready=True)

    def stop_backend(self) -> None:
        """Let the backend close in order."""
        if self.backend is not None:
            self.backend.stop()
            self.backend = None

    def kill_backend(self) -> None:
        """Let the backend die at once."""
        assert self.backend is not None
        self.backend.process.kill()
        self.backend.process.wait()
        self.backend = None

    def join(self, stack: contextlib.ExitStack) -> ShmPlatform:
        """A new guest with a device, not opened; it ends with the stack."""
        platform = stack.enter_context(ShmPlatform.join(self.directory, arena_pages=8192))
        introduce_domain_nodes(self.store, platform.domid)
        attach(self.store, platform.domid)
        return platform


class Peer:
    """An ordinary TCP server whose every connection is handled by ``serve(connection)`` in a thread."""

    def __init__(self, serve: Callable[[socket.socket], Any], backlog: int = 128) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._served: queue.SimpleQueue[Doing] = queue.SimpleQueue()
        self._all: list[Doing] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._all.append(Doing(self._serve_and_close, connection))
            self._served.put(self._all[-1])

    def _serve_and_close(self, connection: socket.socket) -> Any:
        with connection:
            connection.settimeout(PATIENCE)
            return self._serve(connection)

    def outcome(self) -> Any:
        """Wait for the next connection and its end; return what ``serve`` returned."""
        return self._served.get(timeout=PATIENCE).result()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)
        for each in self._all:
            with contextlib.suppress(OSError):
                each.result()


@contextlib.contextmanager
def a_run() -> Iterator[Run]:
    folder = Path(tempfile.mkdtemp(prefix="refimpl-e2e-"))
    try:
        with contextlib.ExitStack() as stack:
            yield Run(folder, stack)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def run() -> Iterator[Run]:
    """A run of the test's own, its backend not started."""
    with a_run() as run:
        yield run


@pytest.fixture(scope="session")
def lasting_run() -> Iterator[Run]:
    """A run whose backend many tests use, one after the other."""
    with a_run() as run:
        run.start_backend()
        yield run


@pytest.fixture
def platform(run: Run) -> Iterator[ShmPlatform]:
    """A guest in the test's own run, its device not opened."""
    with contextlib.ExitStack() as stack:
        yield run.join(stack)


@pytest.fixture
def open_guest(lasting_run: Run) -> Iterator[Callable[..., Frontend]]:
    """Open frontends, each in a guest of its own, with options of Frontend.open."""
    with contextlib.ExitStack() as stack:

        def open_one(**options: Any) -> Frontend:
            frontend = Frontend.open(lasting_run.join(stack), **options)
            stack.callback(frontend.close, 1.0)
            return frontend

        yield open_one


@pytest.fixture
def guest(open_guest: Callable[..., Frontend]) -> Frontend:
    return open_guest()


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Start TCP servers."""
    peers = []

    def start(serve: Callable[[socket.socket], Any], **options: Any) -> Peer:
        peers.append(Peer(serve, **options))
        return peers[-1]

    yield start
    for each in peers:
        each.close()


@pytest.fixture
def do() -> type[Doing]:
    return Doing


@pytest.fixture
def free_port() -> int:
    """A TCP port number nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number
