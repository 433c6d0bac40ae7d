"""The other domains, as this one has them: their segments mapped, their semaphores open, asked for once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import posix_ipc

from refimpl.errors import LimitReached, PlatformError
from refimpl.platform import PAGE_SIZE
from refimpl.shm.control import Control, Message, close_all
from refimpl.shm.eventfds import Eventfd
from refimpl.shm.segments import DOMID_COUNT, PORT_COUNT, TABLES, is_segment, map_segment
from refimpl.shm.tables import Tables


class Peer:
    """One incarnation of a domain. Everything in its memory may change at any moment, to anything."""

    def __init__(
        self,
        domid: int,
        incarnation: int,
        page_count: int,
        descriptors: Sequence[int],
        semaphore: posix_ipc.Semaphore | Eventfd,
        lives: memoryview,
    ) -> None:
        self.domid = domid
        self.incarnation = incarnation
        self.page_count = page_count
        self._lives = lives
        self._arena_mapping = map_segment(descriptors[0], page_count * PAGE_SIZE, writable=True)
        #: The whole arena.
        self.arena = memoryview(self._arena_mapping)
        #: The pending bytes of its ports.
        self.pending = self.arena[:PORT_COUNT]
        self.tables = Tables(map_segment(descriptors[1], TABLES.itemsize, writable=False))
        #: Of the arena.
        self.descriptor = descriptors[0]
        self._maps_place: int | None = None
        self._semaphore = semaphore
        #: Wake the domain. Raises OSError where nobody need, after 2**31 - 1 posts.
        self.post: Callable[[], None] = semaphore.release

    @property
    def alive(self) -> bool:
        """Whether this incarnation lives, as far as the hypervisor has noticed."""
        return bool(self._lives[self.domid] == self.incarnation)

    def find_maps(self, granter: int) -> memoryview | None:
        """Return how often the peer maps each of a granter's pages, a byte a page; None where it never did.

        Always ask for the same granter.
        """
        place = self._maps_place
        if place is None or self.tables.granters[place] != granter:
            self._maps_place = place = self.tables.find_granter(granter)
        return None if place is None else self.tables.maps_row(place)

    def __del__(self) -> None:
        # Nobody can be in post(): whoever calls it holds the peer.
        if hasattr(self, "_semaphore"):
            self._semaphore.close()
            os.close(self.descriptor)


class Peers:
    """All other domains of the run, and this one too: a domain may be its own peer. Safe from several threads."""

    def __init__(self, control: Control, lives: memoryview) -> None:
        self._control = control
        self._lives = lives
        self._known: dict[int, Peer] = {}
        self._lock = threading.Lock()

    def get(self, domid: int) -> Peer | None:
        """Return the domain as it lives now, None where it does not.

        Raises DomainClosed (the hypervisor is gone, and the peer not known yet), LimitReached.
        """
        peer = self._known.get(domid)
        if peer is not None and peer.alive:
            return peer
        if not 0 <= domid < DOMID_COUNT or not self._lives[domid]:
            return None
        with self._lock:
            peer = self._known.get(domid)
            if peer is None or not peer.alive:
                peer = self._ask(domid)
                # Made anew, since others read it meanwhile; the dead are left out: they come to many.
                self._known = {known.domid: known for known in self._known.values() if known.alive}
                if peer is not None:
                    self._known[domid] = peer
            return peer

    def is_alive(self, domid: int, incarnation: int) -> bool:
        """Say whether the domain still is that incarnation."""
        return bool(self._lives[domid] == incarnation)

    def forget(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._known.clear()

    def _ask(self, domid: int) -> Peer | None:
        answer, descriptors = self._control.call({"call": "peer", "domid": domid})
        with ExitStack() as undo:
            undo.callback(close_all, descriptors)
            if "refused" in answer or len(descriptors) != (2 if answer["semaphore"] is not None else 3):
                return None
            peer = self._open(domid, answer, descriptors)
            if peer is not None:
                undo.pop_all()
                os.close(descriptors[1])
            return peer

    def _open(self, domid: int, answer: Message, descriptors: Sequence[int]) -> Peer | None:
        page_count = answer["page_count"]
        # Looked at once: a segment that its owner cuts short later ends this process, see segments.
        if not is_segment(descriptors[0], page_count * PAGE_SIZE) or not is_segment(descriptors[1], TABLES.itemsize):
            return None
        try:
            name = answer["semaphore"]
            semaphore = posix_ipc.Semaphore(name) if name is not None else Eventfd(descriptors[2])
        except posix_ipc.ExistentialError:
            return None  # it has just died
        except (OSError, posix_ipc.Error) as error:
            raise LimitReached("semaphores of this process", None, str(error)) from error
        try:
            return Peer(domid, answer["incarnation"], page_count, descriptors, semaphore, self._lives)
        except PlatformError:
            if name is not None:
                semaphore.close()
            raise
