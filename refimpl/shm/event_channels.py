"""A domain's event channels: its ports, their masks, and the one wait for all of them.

The pending bytes, one a port, lie at the start of the domain's arena, where any sender can set them. All else about a
port the domain alone writes, in its tables: ``offered`` (unbound, for one domid) or ``bound`` (to what a peer offered).
"""

from __future__ import annotations

import heapq
import mmap
import threading
from collections.abc import Sequence
from time import monotonic

from refimpl.errors import LimitReached, Misuse, PortRefused
from refimpl.platform import Fences
from refimpl.shm.channels import HELD, PENDING, QUIET, BoundEnd, Channel, OfferedEnd
from refimpl.shm.eventfds import EventfdWakeUp
from refimpl.shm.peers import Peers
from refimpl.shm.segments import DOMID_COUNT, PORT_COUNT
from refimpl.shm.semaphores import WakeUp
from refimpl.shm.tables import Tables, bound_word, offer_word

_PENDING_BYTE = bytes((PENDING,))
_GENERATIONS = 0xFFFF


class EventChannels:
    """The ports of one domain. Safe from several threads, of which one may wait."""

    def __init__(
        self,
        domid: int,
        incarnation: int,
        arena: mmap.mmap,
        tables: Tables,
        peers: Peers,
        wake_up: WakeUp | EventfdWakeUp,
        fences: Fences,
    ) -> None:
        self._domid = domid
        self._incarnation = incarnation
        self._find = arena.find
        self._pending = memoryview(arena)[:PORT_COUNT]
        self._tables = tables
        self._peers = peers
        self._wake_up = wake_up
        self._is_selected_on = wake_up.fileno() is not None
        self._fences = fences
        self._full_fence = fences.full
        self._lock = threading.Lock()
        self._channels: dict[int, Channel] = {}
        #: By port: whether it may fire.
        self._armed = bytearray(PORT_COUNT)
        self._closed: list[int] = []
        self._port_limit = 1
        self._generation = 0
        self._bound_words: set[int] = set()
        self._waiting = False
        #: An event may be there of which no post will tell.
        self._look = False
        self._woken = False
        self._stopped = False

    def allocate_unbound(self, peer: int) -> int:
        """Offer a new port to the peer. Raises LimitReached, Misuse."""
        if not 0 <= peer < DOMID_COUNT:
            raise Misuse(f"there can be no domain {peer}")
        with self._lock:
            port = self._take_port()
            self._generation = self._generation % _GENERATIONS + 1
            offer = offer_word(peer, self._generation)
            self._open(port, OfferedEnd(self._peers, peer, bound_word(self._incarnation, offer, port)))
            self._fences.write()
            self._tables.offered[port] = offer
            return port

    def bind(self, domid: int, remote_port: int) -> int:
        """Bind a new port to one that the peer offers us. Raises PortRefused, LimitReached."""
        peer = self._peers.get(domid)
        if peer is None:
            raise PortRefused(remote_port, "there is no such domain", domid)
        offer = peer.tables.offered[remote_port] if 0 < remote_port < PORT_COUNT else 0
        if not offer or offer & 0xFFFF != self._domid:
            raise PortRefused(remote_port, "absent, or meant for another domain", domid)
        word = bound_word(peer.incarnation, offer, remote_port)
        with self._lock:
            if word in self._bound_words:
                raise PortRefused(remote_port, "bound already", domid)
            port = self._take_port()
            self._bound_words.add(word)
            self._open(port, BoundEnd(peer, remote_port, offer, word))
            self._tables.bound[port] = word
            self._full_fence()
            # The peer may have notified before it could find us: it is for us to look.
            self._pending[port] = PENDING
        self._look_anew()
        return port

    def notify(self, port: int) -> None:
        """Send an event to the other end. Raises PortRefused."""
        channel = self._channels.get(port)
        if channel is None:
            raise PortRefused(port, "not a port of ours")
        self._full_fence()
        channel.send()

    def wait(self, timeout: float | None) -> Sequence[int]:
        """Wait for events; return the ports that fired, now masked. Raises Misuse where another thread waits."""
        if self._waiting:
            raise Misuse("another thread is waiting for this domain's events")
        self._waiting = True
        try:
            deadline = None if timeout is None else monotonic() + timeout
            last = timeout is not None and timeout <= 0
            while True:
                if self._look or last:
                    self._look = False
                    self._wake_up.drain()
                else:
                    last = not self._wake_up.sleep(deadline)
                fired = self._collect()
                if fired or last or self._woken or self._stopped:
                    self._woken = False
                    return fired
        except BaseException:
            self._look = True  # posts may have been taken, and what they told of not been looked at
            raise
        finally:
            self._waiting = False

    def rearm(self, port: int) -> None:
        """Unmask a port; an event that came meanwhile fires. A port not ours is ignored."""
        with self._lock:
            if port not in self._channels:
                return
            self._armed[port] = True
            if self._pending[port] == QUIET:
                return
            self._pending[port] = PENDING
        self._look_anew()

    def close_port(self, port: int) -> None:
        """Close a port. One not ours is ignored."""
        with self._lock:
            channel = self._channels.pop(port, None)
            if channel is None:
                return
            self._armed[port] = False
            self._tables.offered[port] = 0
            self._tables.bound[port] = 0
            self._pending[port] = QUIET
            if isinstance(channel, BoundEnd):
                self._bound_words.discard(channel.word)
            heapq.heappush(self._closed, port)

    def wake(self) -> None:
        """End the wait in progress, or else the next one. Takes no lock: a signal's handler may call it."""
        self._woken = True
        self._look_anew()

    def stop(self) -> None:
        """Close every port, and let no wait last any more."""
        for port in list(self._channels):
            self.close_port(port)
        self._stopped = True
        self._look_anew()

    def _look_anew(self) -> None:
        """Let the wait in progress, or else the next one, look before it sleeps; let who selects know of it."""
        self._look = True
        if self._waiting or self._is_selected_on:
            self._wake_up.post()

    def _take_port(self) -> int:
        if self._closed:
            return heapq.heappop(self._closed)
        if self._port_limit == PORT_COUNT:
            raise LimitReached("event channels", PORT_COUNT - 1, "close some")
        port = self._port_limit
        self._port_limit = self._tables.port_limit = port + 1
        return port

    def _open(self, port: int, channel: Channel) -> None:
        self._pending[port] = QUIET
        self._channels[port] = channel
        self._armed[port] = True

    def _collect(self) -> list[int]:
        """Take the events of ports that may fire, and mask these; hold the events of masked ones."""
        fired: list[int] = []
        port = self._find(_PENDING_BYTE, 0, self._port_limit)
        while port >= 0:
            if self._armed[port] or not self._hold(port):
                self._armed[port] = False
                self._pending[port] = QUIET
                fired.append(port)
            port = self._find(_PENDING_BYTE, port + 1, self._port_limit)
        if fired:
            # Between the clearing of the bytes and the caller's look at the rings.
            self._full_fence()
        return fired

    def _hold(self, port: int) -> bool:
        """Keep a masked port's event for its rearm: no search finds it, no sender posts again. False if rearmed."""
        with self._lock:
            if self._armed[port]:
                return False
            self._pending[port] = HELD
            return True
