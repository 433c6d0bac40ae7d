"""A domain in another process, or another machine, used as if it were here: every call goes to its agent.

What it cannot do: hand out its memory as a buffer. A remote grant's or map's ``memory`` copies bytes there and back,
for slices with bounds: ``memory[a:b]`` and ``memory[a:b] = value``. A transaction of a remote store is not offered.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from refimpl.errors import DomainClosed, Misuse
from refimpl.fence import fences
from refimpl.platform import GrantedPages, MappedPages, Platform, Result, Store, StoreView, Watch
from refimpl.testing.conformance.agent import PLATFORM, STORE, dump, load

#: Seconds after which a request to an agent is called lost, beyond the time the request itself asks for.
PATIENCE = 60.0


class Link:
    """One connection to an agent, shared by all the objects that stay on its side."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._answers: dict[int, tuple[bool, Any]] = {}
        self._callbacks: dict[int, Callable[[str], None]] = {}
        self._over = False
        threading.Thread(target=self._receive, name="conformance-link", daemon=True).start()
        self.hello = self.result_of(0, PATIENCE)

    def _receive(self) -> None:
        try:
            while True:
                number, done, value = load(self._connection.recv_bytes(), self._find)
                if done is None:
                    self._callbacks[number](value)
                    continue
                with self._changed:
                    self._answers[number] = (done, value)
                    self._changed.notify_all()
        except (EOFError, OSError):
            pass
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            with self._sending:
                self._connection.close()

    def begin(self, operation: str, *arguments: Any) -> int:
        """Send a request; return its number. Raises DomainClosed if the agent is gone."""
        number = next(self._numbers)
        data = dump((number, operation, arguments), self._keep)
        try:
            with self._sending:
                self._connection.send_bytes(data)
        except OSError:
            raise DomainClosed("the remote domain is gone") from None
        return number

    def result_of(self, number: int, patience: float) -> Any:
        """Wait for a request's answer. Raises what it raised, AssertionError if it does not come, DomainClosed."""
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._answers or self._over, patience):
                raise AssertionError(f"a call in a remote domain hangs: no answer for {patience:g} s")
            if number not in self._answers:
                raise DomainClosed("the remote domain is gone")
            done, value = self._answers.pop(number)
        if not done:
            raise value
        return value

    def ask(self, operation: str, *arguments: Any, patience: float = PATIENCE) -> Any:
        """Send a request and wait for its answer."""
        return self.result_of(self.begin(operation, *arguments), patience)

    def call(self, target: int, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of an object on the other side."""
        return self.ask("call", target, method, arguments, options)

    def add_callback(self, callback: Callable[[str], None]) -> int:
        """Give a callback the number by which the agent tells its changes."""
        number = next(self._numbers)
        self._callbacks[number] = callback
        return number

    def close(self) -> None:
        """End the connection, whoever is waiting on it."""
        with self._sending:
            if self._connection.closed:
                return
            with socket.socket(fileno=os.dup(self._connection.fileno())) as own:
                try:
                    own.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the other side ended first

    def _keep(self, value: object) -> object:
        return value.number if isinstance(value, (RemoteGrant, RemoteMap, RemoteWatch)) else None

    def _find(self, identity: tuple[Any, ...]) -> object:
        kind, number, *about = identity
        made: dict[str, Callable[..., object]] = {"grant": RemoteGrant, "map": RemoteMap, "watch": RemoteWatch}
        return made[kind](self, number, *about)


class RemoteMemory:
    """Bytes of another process, copied there and back."""

    def __init__(self, link: Link, target: int, size: int) -> None:
        self._link, self._target, self._size = link, target, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, where: slice) -> bytes:
        first, end, step = where.indices(self._size)
        if step != 1:
            raise Misuse("remote memory is copied in one piece")
        return self._link.ask("peek", self._target, first, end)  # type: ignore[no-any-return]

    def __setitem__(self, where: slice, value: bytes) -> None:
        first, end, step = where.indices(self._size)
        if step != 1 or end - first != len(value):
            raise ValueError("a slice takes as many bytes as it is long")
        self._link.ask("poke", self._target, first, bytes(value))


class RemoteGrant(GrantedPages):
    """Pages that the remote domain grants."""

    def __init__(self, link: Link, number: int, peer: int, refs: tuple[int, ...], size: int) -> None:
        self._link, self.number, self.peer, self.refs = link, number, peer, refs
        self.memory = RemoteMemory(link, number, size)  # type: ignore[assignment]

    def end(self) -> None:
        """See :meth:`GrantedPages.end`."""
        self._link.call(self.number, "end")


class RemoteMap(MappedPages):
    """Pages that the remote domain maps."""

    def __init__(self, link: Link, number: int, peer: int, refs: tuple[int, ...], size: int) -> None:
        self._link, self.number, self.peer = link, number, peer
        self.memory = RemoteMemory(link, number, size)  # type: ignore[assignment]

    def unmap(self) -> None:
        """See :meth:`MappedPages.unmap`."""
        self._link.call(self.number, "unmap")


class RemoteWatch(Watch):
    """A watch of the remote domain's."""

    def __init__(self, link: Link, number: int, path: str) -> None:
        self._link, self.number, self.path = link, number, path

    def cancel(self) -> None:
        """See :meth:`Watch.cancel`."""
        self._link.call(self.number, "cancel")


class RemoteStore(Store):
    """The remote domain's xenstore connection."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def read(self, path: str) -> bytes:
        """See :meth:`Store.read`."""
        return self._link.call(STORE, "read", path)  # type: ignore[no-any-return]

    def write(self, path: str, value: bytes) -> None:
        """See :meth:`Store.write`."""
        self._link.call(STORE, "write", path, value)

    def make_directory(self, path: str) -> None:
        """See :meth:`Store.make_directory`."""
        self._link.call(STORE, "make_directory", path)

    def remove(self, path: str) -> None:
        """See :meth:`Store.remove`."""
        self._link.call(STORE, "remove", path)

    def get_permissions(self, path: str) -> list[str]:
        """See :meth:`Store.get_permissions`."""
        return self._link.call(STORE, "get_permissions", path)  # type: ignore[no-any-return]

    def set_permissions(self, path: str, permissions: Sequence[str]) -> None:
        """See :meth:`Store.set_permissions`."""
        self._link.call(STORE, "set_permissions", path, list(permissions))

    def transact(self, action: Callable[[StoreView], Result]) -> Result:
        """See :meth:`Store.transact`."""
        raise Misuse("a remote store offers no transactions: start a function in its process")

    def watch(self, path: str, callback: Callable[[str], None]) -> Watch:
        """See :meth:`Store.watch`."""
        return self._link.ask("watch", path, self._link.add_callback(callback))  # type: ignore[no-any-return]

    def on_lost(self, callback: Callable[[], None]) -> None:
        """See :meth:`Store.on_lost`."""
        raise Misuse("a remote store offers no on_lost")

    def is_introduced(self, domid: int) -> bool:
        """See :meth:`Store.is_introduced`."""
        return self._link.call(STORE, "is_introduced", domid)  # type: ignore[no-any-return]

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self._link.call(STORE, "close")

    def list(self, path: str) -> list[str]:
        """See :meth:`Store.list`."""
        return self._link.call(STORE, "list", path)  # type: ignore[no-any-return]


class RemotePlatform(Platform):
    """A domain elsewhere, behind a connection to its :class:`~refimpl.testing.conformance.agent.Agent`."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self.link = Link(connection)
        self.name, self.domid, self.default_ring_order = self.link.hello
        self.store = RemoteStore(self.link)
        self.fences = fences()

    def grant(self, peer: int, page_count: int, *, writable: bool = True) -> GrantedPages:
        """See :meth:`Platform.grant`."""
        return self.link.call(PLATFORM, "grant", peer, page_count, writable=writable)  # type: ignore[no-any-return]

    def map(self, peer: int, refs: Sequence[int], *, writable: bool = True) -> MappedPages:
        """See :meth:`Platform.map`."""
        return self.link.call(PLATFORM, "map", peer, tuple(refs), writable=writable)  # type: ignore[no-any-return]

    def allocate_unbound(self, peer: int) -> int:
        """See :meth:`Platform.allocate_unbound`."""
        return self.link.call(PLATFORM, "allocate_unbound", peer)  # type: ignore[no-any-return]

    def bind(self, peer: int, peer_port: int) -> int:
        """See :meth:`Platform.bind`."""
        return self.link.call(PLATFORM, "bind", peer, peer_port)  # type: ignore[no-any-return]

    def notify(self, port: int) -> None:
        """See :meth:`Platform.notify`."""
        self.link.call(PLATFORM, "notify", port)

    def wait(self, timeout: float | None = None) -> Sequence[int]:
        """See :meth:`Platform.wait`."""
        patience = threading.TIMEOUT_MAX if timeout is None else PATIENCE + timeout
        return tuple(self.link.ask("call", PLATFORM, "wait", (timeout,), {}, patience=patience))

    def rearm(self, port: int) -> None:
        """See :meth:`Platform.rearm`."""
        self.link.call(PLATFORM, "rearm", port)

    def close_port(self, port: int) -> None:
        """See :meth:`Platform.close_port`."""
        self.link.call(PLATFORM, "close_port", port)

    def wake(self) -> None:
        """See :meth:`Platform.wake`."""
        self.link.call(PLATFORM, "wake")

    def close(self) -> None:
        """See :meth:`Platform.close`."""
        try:
            self.link.call(PLATFORM, "close")
        except DomainClosed:
            pass
