"""Runs, domains in this process, and domains in processes of their own that a test can kill."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from refimpl.errors import StoreError
from refimpl.shm import Host, ShmPlatform, remove_stale_runs

PATIENCE = 30.0
#: Few enough to be granted to the last one.
ARENA_PAGES = 512


def names_of(run: str) -> list[str]:
    """Return the run's names in /dev/shm."""
    return sorted(name for name in os.listdir("/dev/shm") if run in name)


def clean_up(run: str) -> None:
    """Remove what dead runs left, until nothing of this one is there: another test may be at it just now."""
    deadline = time.monotonic() + PATIENCE
    while names_of(run):
        assert time.monotonic() < deadline, f"names left: {names_of(run)}"
        remove_stale_runs()


class Run:
    """A run with its host in a thread of this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = Host(directory)
        self.id = self.host.hypervisor.run
        self.thread = threading.Thread(target=self.host.run)
        self.thread.start()
        self._domains = ExitStack()

    def join(self, domid: int | None = None, arena_pages: int = ARENA_PAGES) -> ShmPlatform:
        """Join the run from this process, until the run ends."""
        platform = ShmPlatform.join(self.directory, domid=domid, arena_pages=arena_pages)
        self._domains.enter_context(platform)
        with suppress(StoreError):
            platform.store.read("data")  # xenstore has accepted it: descriptors can be counted
        return platform

    def spawn(self, domid: int | None = None) -> Process:
        """Join it from another process, until the run ends."""
        return self._domains.enter_context(Process.domain(self.directory, domid))

    def stop(self) -> None:
        """End the host."""
        self.host.stop()
        self.thread.join(PATIENCE)
        self.host.close()

    def close(self) -> None:
        """End everything."""
        self._domains.close()
        self.stop()


class Process:
    """A Python process that runs what it is sent, until it is killed."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        program = str(Path(__file__).with_name("process.py"))
        with theirs:
            command = [sys.executable, program, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self.pid = self._process.pid
        self._connection = Connection(ours.detach())

    @classmethod
    def domain(cls, directory: Path, domid: int | None = None) -> Process:
        """Start a process that has joined the run, as its variable ``platform``."""
        process = cls()
        process.run("from refimpl.shm import ShmPlatform")
        process.run(f"platform = ShmPlatform.join({str(directory)!r}, domid={domid}, arena_pages={ARENA_PAGES})")
        return process

    def begin(self, source: str) -> None:
        """Begin to run statements, or to evaluate an expression."""
        self._connection.send(source)

    def result(self) -> object:
        """Return the value of the expression begun, None for statements; raise what they raised."""
        assert self._connection.poll(PATIENCE), "the process does not answer"
        done, value = pickle.loads(self._connection.recv_bytes())
        if done:
            return value
        raise value

    def run(self, source: str) -> object:
        """Begin, and wait for the result."""
        self.begin(source)
        return self.result()

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self._process.kill()
        self._process.wait(PATIENCE)

    @property
    def is_gone(self) -> bool:
        """Whether it was killed, or ended."""
        return self._process.poll() is not None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self.kill()


@pytest.fixture
def run_directory() -> Iterator[Path]:
    """Name a directory for a run, with a short path; it does not exist yet."""
    parent = tempfile.mkdtemp(prefix="refimpl-")
    yield Path(parent) / "run"
    shutil.rmtree(parent)


@pytest.fixture
def run(run_directory: Path) -> Iterator[Run]:
    """Give a run for one test; afterwards nothing of it is left."""
    made = Run(run_directory)
    try:
        yield made
    finally:
        made.close()
    assert names_of(made.id) == []
    assert not run_directory.exists()


@pytest.fixture
def process() -> Iterator[Process]:
    """Give a process that has joined nothing."""
    with Process() as made:
        yield made


@contextmanager
def _forked_child() -> Iterator[int]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that threads are about is no matter here
            child = os.fork()
        if child == 0:
            ours.close()
            theirs.send(b"!")  # it has let go of what it must
            theirs.recv(1)
            os._exit(0)
        theirs.close()
        ours.recv(1)
        try:
            yield child
        finally:
            ours.close()
            os.waitpid(child, 0)


@pytest.fixture
def forked_child():
    """Give what forks a child that lives, and does nothing, throughout a block: ``with forked_child() as pid``."""
    return _forked_child


@pytest.fixture
def names():
    """Give what lists a run's names."""
    return names_of


@contextmanager
def _host_process(directory: Path) -> Iterator[Process]:
    with Process() as host:
        host.run("from refimpl.shm import Host")
        host.run(f"host = Host({str(directory)!r})")
        host.run("import threading; thread = threading.Thread(target=host.run, daemon=True); thread.start()")
        yield host


@pytest.fixture
def cleaned():
    """Give what removes what dead runs left, and demands that nothing of one of them is there any more."""
    return clean_up


@pytest.fixture
def host_process():
    """Give what starts a run's host in a process of its own: ``with host_process(directory) as host``."""
    return _host_process


@pytest.fixture
def domain_process():
    """Give what starts a domain in a process of its own: ``with domain_process(directory) as domain``."""
    return Process.domain
