"""A xenstore server for tests, in a thread of the test's own process.

::

    with running_store(directory) as store:
        domain_0 = pyxs.Client(unix_socket_path=store)
        guest = pyxs.Client(unix_socket_path=store.identity(1))
"""

from __future__ import annotations

import os
import queue
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from selectors import EVENT_READ
from typing import TypeVar

from refimpl.shm.store import Quotas, StoreServer

_Result = TypeVar("_Result")

#: Seconds for the server's thread to do what a test tells it; it takes microseconds unless it hangs.
_PATIENCE = 30.0


class _ServerThread(threading.Thread):
    """Runs a server and its selector until it is told to stop."""

    def __init__(self, quotas: Quotas) -> None:
        super().__init__(name="store server", daemon=True)
        self._quotas = quotas
        self._actions: queue.SimpleQueue[Callable[[StoreServer], None]] = queue.SimpleQueue()
        self._doorbell, self._bell_push = socket.socketpair()
        self._is_running = True

    def run(self) -> None:
        with self._doorbell, self._bell_push, selectors.DefaultSelector() as selector:
            server = StoreServer(selector, quotas=self._quotas)
            selector.register(self._doorbell, EVENT_READ, lambda mask: self._act(server))
            try:
                while self._is_running:
                    for key, mask in selector.select():
                        key.data(mask)
            finally:
                server.close()

    def _act(self, server: StoreServer) -> None:
        self._doorbell.recv(1)
        self._actions.get()(server)

    def call(self, action: Callable[[StoreServer], _Result]) -> _Result:
        """Run the action in the server's thread; return what it returns, raise what it raises."""
        outcome: queue.SimpleQueue[_Result | BaseException] = queue.SimpleQueue()

        def act(server: StoreServer) -> None:
            try:
                outcome.put(action(server))
            except BaseException as error:
                outcome.put(error)

        self._actions.put(act)
        self._bell_push.send(b"!")
        result = outcome.get(timeout=_PATIENCE)
        if isinstance(result, BaseException):
            raise result
        return result

    def stop(self) -> None:
        """End the thread; the server is closed then."""

        def stop(server: StoreServer) -> None:
            self._is_running = False

        self.call(stop)
        self.join(_PATIENCE)


class RunningStore(str):
    """The path of domain 0's socket, with what a test does to the server behind it; from any thread."""

    _thread: _ServerThread

    def identity(self, domid: int) -> str:
        """Return the path of the domain's socket; one that has none is introduced."""
        path = f"{self}.{domid}" if domid else str(self)

        def listen(server: StoreServer) -> None:
            if not os.path.exists(path):
                server.listen(domid, path)
                server.introduce(domid)

        self._thread.call(listen)
        return path

    def release(self, domid: int) -> None:
        """Let the domain have died."""
        self._thread.call(lambda server: server.release(domid))


@contextmanager
def running_store(directory: str | os.PathLike[str], *, quotas: Quotas | None = None) -> Iterator[RunningStore]:
    """Run a server with its sockets in ``directory``; as long as that is short, since their paths are limited."""
    thread = _ServerThread(quotas or Quotas())
    thread.start()
    store = RunningStore(os.path.join(directory, "xenstore"))
    store._thread = thread
    try:
        store.identity(0)
        yield store
    finally:
        thread.stop()
