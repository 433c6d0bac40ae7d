"""A xenstore server on unix sockets: one socket, so one identity, a domain.

It runs in whoever's selector loop it is given: no thread, nothing that blocks, and nothing to do while nobody asks.
Only this user can open the sockets; whichever of his processes connects to one speaks as its domain.
"""

from __future__ import annotations

import os
import selectors
from functools import partial
from selectors import EVENT_READ

from refimpl.errors import Misuse
from refimpl.shm.store.alarm import Alarm
from refimpl.shm.store.connection import Connection
from refimpl.shm.store.database import Database
from refimpl.shm.store.domains import is_real
from refimpl.shm.store.listener import Listener
from refimpl.shm.store.permissions import PRIVILEGED
from refimpl.shm.store.quotas import Quotas
from refimpl.shm.store.session import Session

#: Seconds between looks at clients that do not read.
_LOOK = 1.0
#: Connections accepted a turn.
_TURN = 16
#: The longest path of a unix socket, in bytes.
_SOCKET_PATH_MAX = 107

_DEFAULT_QUOTAS = Quotas()


class StoreServer:
    """The store and its clients' sockets, served by ``selector``.

    What it registers there has as its data a callable that takes the event mask: whoever runs the selector calls it
    with what ``select`` returned, in the thread that calls everything here.
    """

    def __init__(self, selector: selectors.BaseSelector, *, quotas: Quotas = _DEFAULT_QUOTAS) -> None:
        self._selector = selector
        self._database = Database(quotas, on_release=self._stop_listening)
        self._listeners: dict[int, Listener] = {}
        #: Each open connection with the events it is registered for; 0 for one that has to wait for others.
        self._connections: dict[Connection, int] = {}
        #: Connections with something new to send, or to end.
        self._to_settle: set[Connection] = set()
        self._waiting: set[Connection] = set()
        #: Connections that have not taken all that was sent to them.
        self._behind: set[Connection] = set()
        self._starved: set[Listener] = set()
        self._alarm = Alarm(_LOOK)
        self._is_closed = False
        selector.register(self._alarm, EVENT_READ, self._on_alarm)

    def listen(self, domid: int, path: str) -> None:
        """Serve clients that speak as the domain, on a new unix socket at ``path`` that only this user can open.

        Raises Misuse (no such domid, one that has its socket already, a path too long), OSError.
        """
        self._check(domid)
        if domid in self._listeners:
            raise Misuse(f"domain {domid} is served at {self._listeners[domid].path} already")
        if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
            raise Misuse(f"the path of a unix socket has at most {_SOCKET_PATH_MAX} bytes: {path}")
        listener = Listener(self._database.domains.get(domid), path)
        self._listeners[domid] = listener
        self._accept_again(listener)

    def introduce(self, domid: int) -> None:
        """Let the domain be known from now on: fires @introduceDomain, unless it is known already. Raises Misuse."""
        self._check(domid)
        self._database.introduce(domid)
        self._settle()

    def release(self, domid: int) -> None:
        """Forget the domain, which has died: fires @releaseDomain, if it was known. Raises Misuse.

        Drops its socket and connections with their watches and transactions, the nodes it owns with all below them, and
        every permission it was given, so that a later domain of its number inherits nothing.
        """
        self._check(domid)
        if domid == PRIVILEGED:
            raise Misuse(f"domain {domid} cannot be released")
        self._database.release(domid)
        self._settle()

    def close(self) -> None:
        """Hang up on all clients and remove the sockets. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            for connection in list(self._connections):
                self._drop(connection)
            for domid in list(self._listeners):
                self._stop_listening(domid)
            self._selector.unregister(self._alarm)
            self._alarm.close()

    @staticmethod
    def _check(domid: int) -> None:
        if not is_real(domid):
            raise Misuse(f"no domain has the number {domid}")

    def _on_connect(self, listener: Listener, mask: int) -> None:
        for _ in range(_TURN):
            stream = None if listener.is_closed or listener.is_full else listener.accept()
            if stream is None:
                break
            connection = Connection(stream, Session(self._database, listener.domain))
            # What others do can give a client something to be sent, which no selector knows of.
            connection.session.attention = partial(self._to_settle.add, connection)
            self._connections[connection] = 0
            self._to_settle.add(connection)
        if not listener.is_closed and (listener.is_full or listener.is_starved):
            self._pause(listener)
        self._settle()

    def _on_ready(self, connection: Connection, mask: int) -> None:
        connection.serve(bool(mask & EVENT_READ))  # one that has been closed since it was ready serves nothing
        self._to_settle.add(connection)
        self._settle()

    def _on_alarm(self, mask: int) -> None:
        self._alarm.acknowledge()
        for connection in [behind for behind in self._behind if behind.has_stalled]:
            self._drop(connection)
        for listener in list(self._starved):
            self._accept_again(listener)
        self._settle()

    def _settle(self) -> None:
        """Send what the last turn left to be sent, and wait for what may come next."""
        while self._to_settle:
            connection = self._to_settle.pop()
            if connection.is_closed:
                continue
            connection.flush()
            if connection.has_ended:
                self._drop(connection)
                continue
            self._want(connection)
            (self._behind.add if connection.session.outbox else self._behind.discard)(connection)
        for connection in list(self._waiting):
            self._want(connection)
        if not self._is_closed:
            self._alarm.switch(bool(self._behind or self._starved))

    def _want(self, connection: Connection) -> None:
        wanted, registered = connection.wanted, self._connections[connection]
        if wanted == registered and wanted:
            return
        on_ready = partial(self._on_ready, connection)
        if not registered and wanted:
            self._selector.register(connection.stream, wanted, on_ready)
        elif wanted:
            self._selector.modify(connection.stream, wanted, on_ready)
        elif registered:
            self._selector.unregister(connection.stream)
        self._connections[connection] = wanted
        (self._waiting.discard if wanted else self._waiting.add)(connection)

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection):
            self._selector.unregister(connection.stream)
        self._waiting.discard(connection)
        self._behind.discard(connection)
        connection.close()
        listener = self._listeners.get(connection.session.domain.domid)
        if listener is not None:
            self._accept_again(listener)

    def _pause(self, listener: Listener) -> None:
        self._selector.unregister(listener.socket)
        listener.is_paused = True
        if listener.is_starved:
            self._starved.add(listener)

    def _accept_again(self, listener: Listener) -> None:
        self._starved.discard(listener)
        listener.is_starved = False
        if listener.is_paused:
            listener.is_paused = False
            self._selector.register(listener.socket, EVENT_READ, partial(self._on_connect, listener))

    def _stop_listening(self, domid: int) -> None:
        listener = self._listeners.pop(domid, None)
        if listener is not None:
            self._starved.discard(listener)
            if not listener.is_paused:
                self._selector.unregister(listener.socket)
            listener.close()
