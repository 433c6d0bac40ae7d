"""Runs whose every process can be killed, and counts of what is held before and after."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refimpl.frontend import Frontend
from refimpl.shm import ShmPlatform
from refimpl.store.client import StoreClient
from refimpl.testing.doing import Doing
from refimpl.testing.running_host import running_host
from refimpl.toolstack import attach, introduce_domain_nodes

PATIENCE = 30.0


class Run:
    """A run whose store is in this process."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.directory = str(folder / "run")
        self._stack = stack
        host = stack.enter_context(running_host(self.directory))
        self.store = stack.enter_context(contextlib.closing(StoreClient.connect(host.store_path)))

    def join(self, domid: int | None = None) -> ShmPlatform:
        """A new domain here; a guest has a device."""
        platform = self._stack.enter_context(ShmPlatform.join(self.directory, domid=domid, arena_pages=1024))
        if domid is None:
            self.attach(platform.domid)
        return platform

    def attach(self, domid: int) -> None:
        introduce_domain_nodes(self.store, domid)
        attach(self.store, domid)

    def open(self, platform: ShmPlatform, **options: Any) -> Frontend:
        """Open a frontend; close it while there is a backend, or the closing takes its time-out.

        It keeps no rings: what is held is in use.
        """
        return Frontend.open(platform, **{"ring_order": 1, "timeout": PATIENCE, "spare_rings": 0, **options})


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="refimpl-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    with contextlib.ExitStack() as stack:
        yield Run(folder, stack)


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """An ordinary server that sends back what it gets; its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        threads: list[threading.Thread] = []

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE)
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)


def count_held(platform: ShmPlatform) -> dict[str, int]:
    return {
        "free pages": platform._domain.arena.free_page_count,
        "maps": sum(row.in_use for row in platform._mapper._rows.values()),
        "ports": len(platform._channels._channels),
    }


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def wait_until_equal(wanted: Any, look: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    gate = threading.Event()
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, f"{found}, not {wanted}"
        gate.wait(0.002)


@pytest.fixture
def do() -> type[Doing]:
    """Make a call in a thread of its own."""
    return Doing


@pytest.fixture
def held() -> Callable[[ShmPlatform], dict[str, int]]:
    """What a domain holds: pages not granted, maps of others' pages, ports."""
    return count_held


@pytest.fixture
def descriptors() -> Callable[[], int]:
    """How many descriptors this process has open."""
    return count_descriptors


@pytest.fixture
def become() -> Callable[[Any, Callable[[], Any]], None]:
    """Wait for a value that no event tells of."""
    return wait_until_equal
