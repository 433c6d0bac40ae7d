"""A xenstore server played by the test itself, byte by byte, on a unix socket or on a pty in place of the device."""

from __future__ import annotations

import os
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from refimpl.ready import is_readable
from refimpl.store.client import StoreClient
from refimpl.store.wire import HEADER, OK, Operation, packet, strings

PATIENCE = 30.0


class Request(NamedTuple):
    kind: int
    request_id: int
    transaction_id: int
    payload: bytes


class PlayedServer:
    """The server's end of one client's connection: ``descriptor`` is read and written raw."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def receive(self) -> Request:
        kind, request_id, transaction_id, size = HEADER.unpack(self._read(HEADER.size))
        return Request(kind, request_id, transaction_id, self._read(size))

    def expect(self, kind: Operation) -> Request:
        request = self.receive()
        assert request.kind == kind
        return request

    def expect_nothing(self) -> None:
        """Look for a little while whether the client sends something it must not."""
        assert not is_readable(self.descriptor, 0.05), "the client sent something"

    def send(self, kind: int, payload: bytes, request: Request | None = None) -> None:
        ids = (request.request_id, request.transaction_id) if request else (0, 0)
        self.send_raw(packet(kind, payload, *ids))

    def answer(self, request: Request, payload: bytes = OK) -> None:
        self.send(request.kind, payload, request)

    def refuse(self, request: Request, error_name: bytes) -> None:
        self.send(Operation.ERROR, error_name, request)

    def event(self, path: bytes, token: bytes) -> None:
        self.send(Operation.WATCH_EVENT, strings(path, token))

    def send_raw(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.descriptor, data) :]

    def take_watch(self) -> bytes:
        """Accept the watch the client asks for; return its token."""
        request = self.expect(Operation.WATCH)
        self.answer(request)
        return request.payload.split(b"\0")[1]

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert is_readable(self.descriptor, PATIENCE), "the client sent nothing"
            chunk = os.read(self.descriptor, size - len(data))
            assert chunk, "the client closed the connection"
            data += chunk
        return data


class Client(NamedTuple):
    """The store under test, a pool to call it from, and the server the test plays."""

    store: StoreClient
    server: PlayedServer
    start: Callable[..., Future[Any]]


def open_descriptors() -> dict[str, str]:
    """Return what each descriptor of this process is open on."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # The one by which the directory was read.
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every store a test opens is closed without a trace."""
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    yield
    assert not [thread for thread in threading.enumerate() if thread not in threads and "refimpl" in thread.name]
    assert dict(open_descriptors().items() - descriptors.items()) == {}


@pytest.fixture
def stack(nothing_left: None) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def play(stack: ExitStack, tmp_path: Path) -> Callable[..., Client]:
    """Connect a client to a server that the test plays; ``timeout`` is the client's."""

    def connect(timeout: float = PATIENCE) -> Client:
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=64))
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            store = StoreClient.connect(path, timeout=timeout)
            accepted, _ = listener.accept()
        os.unlink(path)
        server = PlayedServer(accepted.detach())
        stack.callback(store.close)
        stack.callback(server.close)
        return Client(store, server, pool.submit)

    return connect


@pytest.fixture
def play_device(stack: ExitStack) -> Callable[..., Client]:
    """As ``play``, over a raw pty in place of /dev/xen/xenbus: read and written as a device, no socket."""

    def connect(timeout: float = PATIENCE) -> Client:
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=64))
        master, slave = os.openpty()
        tty.setraw(slave)
        try:
            store = StoreClient.connect_device(os.ttyname(slave), timeout=timeout)
        finally:
            os.close(slave)
        server = PlayedServer(master)
        stack.callback(store.close)
        stack.callback(server.close)
        return Client(store, server, pool.submit)

    return connect


@pytest.fixture
def pause_until() -> Callable[[Callable[[], bool]], None]:
    """Wait for a condition that another thread brings about, without a fixed sleep."""

    def wait(condition: Callable[[], bool]) -> None:
        gate = threading.Event()
        for _ in range(int(PATIENCE / 0.005)):
            if condition():
                return
            gate.wait(0.005)
        raise AssertionError("it did not come about")

    return wait
