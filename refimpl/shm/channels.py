"""The sending half of an event channel: where our events go, seen from each of the two ways an end comes to be.

To send is: full fence, by the caller; if the receiver's pending byte is 0, set it, and then post the receiver's
semaphore or eventfd, in this order. A byte found set needs nothing: its receiver will clear it, fence, and then look.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from refimpl.errors import PlatformError
from refimpl.shm.peers import Peer, Peers

#: What a pending byte says; senders write PENDING and only over QUIET. HELD is the receiver's, for a masked port.
QUIET, PENDING, HELD = 0, 1, 2


class Channel(ABC):
    """Our end of an event channel."""

    __slots__ = ()

    @abstractmethod
    def send(self) -> None:
        """Send an event to the other end, or to nowhere where there is none. The caller has just fenced."""


class BoundEnd(Channel):
    """An end that we bound to a port which the peer offered."""

    __slots__ = ("_offer", "_offered", "_peer", "_pending", "_post", "_remote_port", "word")

    def __init__(self, peer: Peer, remote_port: int, offer: int, word: int) -> None:
        self._peer = peer
        self._offered = peer.tables.offered
        self._pending = peer.pending
        self._post = peer.post
        self._remote_port = remote_port
        self._offer = offer
        #: What our tables say of the end.
        self.word = word

    def send(self) -> None:
        """Send an event, if the peer still offers what we bound."""
        port = self._remote_port
        if self._offered[port] == self._offer and not self._pending[port]:
            self._pending[port] = PENDING
            try:
                self._post()
            except OSError:
                pass  # posted 2**31 - 1 times too often: it needs no more


class OfferedEnd(Channel):
    """An end that we offered, and that the peer binds, or has bound, or lets go, at any moment."""

    __slots__ = ("_domid", "_peers", "_target", "_word")

    def __init__(self, peers: Peers, domid: int, word: int) -> None:
        self._peers = peers
        self._domid = domid
        self._word = word
        self._target: tuple[Peer, int] | None = None

    def send(self) -> None:
        """Send an event, if the peer has bound what we offer."""
        target = self._target
        if target is None or not target[0].alive or target[0].tables.bound[target[1]] != self._word:
            target = self._target = self._find()
            if target is None:
                return
        peer, port = target
        if not peer.pending[port]:
            peer.pending[port] = PENDING
            try:
                peer.post()
            except OSError:
                pass  # as above

    def _find(self) -> tuple[Peer, int] | None:
        """Look where the peer has bound it. One that binds just now gives itself an event after that."""
        try:
            peer = self._peers.get(self._domid)
        except PlatformError:
            return None  # with no hypervisor there are no new peers
        if peer is None:
            return None
        port = peer.tables.find_bound(self._word)
        return None if port is None else (peer, port)
