"""The hypervisor's stand-in: it gives domids, passes segments between domains, and notices their deaths.

A domain is one process. It proves itself by a pidfd, which becomes readable at the process's death and not before; the
end of a connection proves nothing, since a forked child may keep it open. Everything here happens in one thread, the
one that runs the selector, and nothing blocks.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Protocol

import posix_ipc

from refimpl.errors import RefimplError
from refimpl.platform import PAGE_SIZE
from refimpl.shm.control import Message, NotAMessage, close_all, receive_message, send_message
from refimpl.shm.forks import abandon_in_child
from refimpl.shm.incarnations import Incarnation, Refused, check_process
from refimpl.shm.lives import Lives
from refimpl.shm.names import Anchor, remove_stale_runs
from refimpl.shm.run_directory import RunDirectory, control_path, store_path
from refimpl.shm.segments import DOMID_COUNT, FIRST_PAGE, LARGEST_ARENA, TABLES, check_machine, is_segment

_BACKLOG = 64
#: Connections accepted a turn.
_TURN = 16
#: The domain whose xenstore identity is always there: the toolstack's and the tools'.
_PRIVILEGED = 0

_Answer = tuple[Message, Sequence[int]]


class Store(Protocol):
    """What the hypervisor tells xenstore's server."""

    def listen(self, domid: int, path: str, /) -> None:
        """Serve clients that speak as the domain, on a unix socket at ``path``."""

    def introduce(self, domid: int, /) -> None:
        """Let the domain be known from now on."""

    def release(self, domid: int, /) -> None:
        """Forget the domain, which has died."""


class _Caller:
    """One connection to the control socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.domain: Incarnation | None = None


class Hypervisor:
    """A run, from its first name to its last."""

    def __init__(self, run_directory: str | os.PathLike[str], selector: selectors.BaseSelector, store: Store) -> None:
        """Begin a run in the directory, after removing what dead runs left.

        What it registers with ``selector`` has as its data a callable that takes the event mask.
        Raises PlatformError, Misuse.
        """
        check_machine()
        remove_stale_runs()
        self._selector = selector
        self._store = store
        self._domains: dict[int, Incarnation] = {}
        self._callers: set[_Caller] = set()
        self._calls = {"join": self._join, "enter": self._enter, "peer": self._peer, "leave": self._leave}
        self._accepting = False
        with ExitStack() as undo:
            self._directory = undo.enter_context(RunDirectory(run_directory))
            self._anchor = Anchor.create(self._directory.path)
            undo.callback(self._anchor.leave)
            self._lives = Lives(self._anchor.run)
            undo.callback(self._lives.close)
            store.listen(_PRIVILEGED, store_path(self._directory.path, _PRIVILEGED))
            store.introduce(_PRIVILEGED)
            self._listener = self._listen()
            self._closing = undo.pop_all()
        self._accept_again()
        abandon_in_child(self)

    @property
    def run(self) -> str:
        """The run's id, which is in all its names."""
        return self._anchor.run

    def close(self) -> None:
        """End the run here: its names go, and nobody joins any more. A second call does nothing.

        The domains that know each other go on as after a kill: none is declared dead.
        """
        for domain in list(self._domains.values()):
            self._remove(domain)
        for caller in list(self._callers):
            self._drop(caller)
        self._pause()
        self._listener.close()
        self._closing.close()

    def abandon(self) -> None:
        """Close a forked child's copies of what others connect to."""
        for copy in (self._listener, *(caller.connection for caller in self._callers)):
            with suppress(OSError):
                os.close(copy.detach())

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        listener.bind(control_path(self._directory.path))
        listener.listen(_BACKLOG)
        return listener

    def _accept_again(self) -> None:
        if not self._accepting:
            self._accepting = True
            self._selector.register(self._listener, selectors.EVENT_READ, self._on_connect)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            self._selector.unregister(self._listener)

    def _on_connect(self, mask: int) -> None:
        for _ in range(_TURN):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                self._pause()  # out of descriptors: until some caller or domain gives its own back
                return
            connection.setblocking(False)
            caller = _Caller(connection)
            self._callers.add(caller)
            self._selector.register(connection, selectors.EVENT_READ, partial(self._on_call, caller))

    def _on_call(self, caller: _Caller, mask: int) -> None:
        if caller not in self._callers:
            return
        try:
            message, descriptors = receive_message(caller.connection)
        except BlockingIOError:
            return
        except (OSError, NotAMessage):
            self._drop(caller)
            return
        try:
            answer = self._answer(caller, message, descriptors)
        except (Refused, RefimplError) as error:
            answer = {"refused": str(error)}, ()
        finally:
            close_all(descriptors)
        try:
            send_message(caller.connection, *answer)
        except OSError:
            self._drop(caller)  # gone, or it does not read

    def _answer(self, caller: _Caller, message: Message, descriptors: list[int]) -> _Answer:
        """Carry a call out; it removes from ``descriptors`` what it keeps."""
        call: Callable[[_Caller, Message, list[int]], _Answer] | None = self._calls.get(str(message.get("call")))
        if call is None:
            raise Refused("there is no such call")
        return call(caller, message, descriptors)

    def _drop(self, caller: _Caller) -> None:
        self._selector.unregister(caller.connection)
        self._callers.discard(caller)
        caller.connection.close()
        domain = caller.domain
        if domain is not None and domain.segments is None and self._domains.get(domain.domid) is domain:
            self._end(domain)
        self._accept_again()

    def _join(self, caller: _Caller, message: Message, descriptors: list[int]) -> _Answer:
        if caller.domain is not None or len(descriptors) != 1:
            raise Refused("a connection joins once, with its process's pidfd")
        check_process(caller.connection, descriptors[0])
        wanted = message.get("domid")
        if wanted is not None and not (type(wanted) is int and 0 <= wanted < DOMID_COUNT):
            raise Refused(f"a domid is 0 to {DOMID_COUNT - 1}")
        selectable = message.get("selectable") is True
        former = self._domains.get(-1 if wanted is None else wanted)
        if former is not None and former.is_dead:
            self._end(former)
        domid, incarnation = self._lives.give(wanted)
        try:
            domain = Incarnation(domid, incarnation, descriptors[0], self.run, selectable=selectable)
        except (OSError, posix_ipc.Error) as error:
            self._lives.end(domid)
            raise Refused(f"nothing to wake it by: {error}") from error
        descriptors.clear()
        self._domains[domid] = caller.domain = domain
        self._selector.register(domain.process, selectors.EVENT_READ, partial(self._on_death, domain))
        answer = {"domid": domid, "incarnation": incarnation, "run": self.run, "semaphore": domain.semaphore_name}
        return answer, [self._lives.descriptor, *domain.eventfds]

    def _enter(self, caller: _Caller, message: Message, descriptors: list[int]) -> _Answer:
        domain = self._domain_of(caller)
        pages = message.get("page_count")
        if domain.segments is not None or len(descriptors) != 2:
            raise Refused("a domain enters once, with its two segments")
        if not (type(pages) is int and FIRST_PAGE < pages <= LARGEST_ARENA):
            raise Refused(f"an arena has {FIRST_PAGE + 1} to {LARGEST_ARENA} pages")
        if not is_segment(descriptors[0], pages * PAGE_SIZE) or not is_segment(descriptors[1], TABLES.itemsize):
            raise Refused("these are not the segments of a domain")
        domain.segments, domain.page_count = list(descriptors), pages
        descriptors.clear()
        self._lives.begin(domain.domid, domain.incarnation)
        path = store_path(self._directory.path, domain.domid)
        if domain.domid != _PRIVILEGED:
            try:
                self._store.listen(domain.domid, path)
                self._store.introduce(domain.domid)
            except (OSError, RefimplError) as error:
                self._end(domain)
                raise Refused(f"xenstore cannot serve it: {error}") from error
        return {"store": path}, ()

    def _peer(self, caller: _Caller, message: Message, descriptors: list[int]) -> _Answer:
        self._domain_of(caller)
        domid = message.get("domid")
        peer = self._domains.get(domid) if type(domid) is int else None
        if peer is None or peer.segments is None:
            raise Refused("there is no such domain")
        answer = {
            "incarnation": peer.incarnation,
            "page_count": peer.page_count,
            "semaphore": peer.semaphore_name,
        }
        return answer, [*peer.segments, *peer.eventfds]

    def _leave(self, caller: _Caller, message: Message, descriptors: list[int]) -> _Answer:
        self._end(self._domain_of(caller))
        return {}, ()

    def _domain_of(self, caller: _Caller) -> Incarnation:
        domain = caller.domain
        if domain is None or self._domains.get(domain.domid) is not domain:
            raise Refused("this connection has no domain")
        return domain

    def _on_death(self, domain: Incarnation, mask: int) -> None:
        if self._domains.get(domain.domid) is domain:
            self._end(domain)

    def _end(self, domain: Incarnation) -> None:
        """Let a domain be dead, for everyone."""
        self._lives.end(domain.domid)
        self._remove(domain)
        if domain.segments is not None and domain.domid != _PRIVILEGED:
            self._store.release(domain.domid)
        for other in self._domains.values():
            # An event that it announced and did not live to post.
            other.wake()
        self._accept_again()

    def _remove(self, domain: Incarnation) -> None:
        del self._domains[domain.domid]
        self._selector.unregister(domain.process)
        domain.close()
