"""The granter's side of the grant table.

A page has one word in ``granted``, which this side alone writes; whether a peer maps it is in the peer's tables, which
the peer alone writes. That replaces the compare-and-swap that Xen has and Python has not: a mapper says that it maps,
fences, and then looks whether it may; we say that it may not, fence, and then look whether it does. One of the two sees
the other.

A ref names a page and a generation, one a grant, so that a ref kept after its grant's end is refused and does not name
whatever has the page by then.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import chain
from struct import pack
from typing import NamedTuple

from refimpl.errors import LimitReached, Misuse, PlatformError
from refimpl.platform import Fences, GrantedPages
from refimpl.shm.arena import Arena
from refimpl.shm.lifetime import Lifetime
from refimpl.shm.page_runs import Run
from refimpl.shm.peers import Peers
from refimpl.shm.segments import DOMID_COUNT, GENERATION_COUNT, PAGE_BITS
from refimpl.shm.tables import Tables, grant_word

#: Quarantined pieces looked at when a grant begins, so that a peer that never lets go cannot make grants slow.
_LOOKED_AT = 8


class ShmGrantedPages(GrantedPages):
    """Pages of our arena that a peer may map."""

    def __init__(
        self, granter: Granter, peer: int, runs: Sequence[Run], refs: tuple[int, ...], memory: memoryview
    ) -> None:
        self.peer = peer
        self.refs = refs
        self.memory = memory
        self._runs = runs
        self._granter: Granter | None = granter

    def end(self) -> None:
        """End the grants. Raises Misuse, with nothing ended, where ``memory`` is in the middle of a call.

        Slices, casts and arrays of it are not noticed: they go on reading and writing pages that are reused.
        """
        granter, self._granter = self._granter, None
        if granter is None or not granter.lifetime.lasts():
            return
        try:
            self.memory.release()
        except BufferError as error:
            self._granter = granter
            raise Misuse("release every view of the granted pages before their end") from error
        granter.end(self.peer, self._runs)


class _Quarantined(NamedTuple):
    """Pages whose grants are ended while the peer maps them."""

    peer: int
    runs: Sequence[Run]


class Granter:
    """Grants this domain's pages. Safe from several threads."""

    def __init__(
        self, lifetime: Lifetime, incarnation: int, arena: Arena, tables: Tables, peers: Peers, fences: Fences
    ) -> None:
        self.lifetime = lifetime
        self._incarnation = incarnation
        self._arena = arena
        self._granted = tables.granted
        self._peers = peers
        self._fences = fences
        self._lock = threading.Lock()
        self._generation = -1
        self._quarantine: deque[_Quarantined] = deque()

    @property
    def quarantined_page_count(self) -> int:
        """How many pages are kept aside, because a peer was seen to map them after their end."""
        return sum(run.page_count for each in self._quarantine for run in each.runs)

    def grant(self, peer: int, page_count: int, *, writable: bool) -> ShmGrantedPages:
        """Grant zeroed pages. Raises LimitReached, Misuse."""
        if page_count < 1 or not 0 <= peer < DOMID_COUNT:
            raise Misuse(f"{page_count} pages cannot be granted to domain {peer}")
        with self._lock:
            self._release_quarantined(_LOOKED_AT)
            runs = self._take(page_count)
            try:
                memory = self._arena.view(runs)
            except LimitReached:
                self._arena.give_back(runs)
                raise
            self._generation = generation = (self._generation + 1) % GENERATION_COUNT
            word = pack("=I", grant_word(peer, generation, writable=writable))
            self._fences.write()  # who sees the grant sees the zeroes
            for first, end in runs:
                self._granted[4 * first : 4 * end] = word * (end - first)
        base = generation << PAGE_BITS
        refs = tuple(chain.from_iterable(range(base + first, base + end) for first, end in runs))
        return ShmGrantedPages(self, peer, runs, refs, memory)

    def end(self, peer: int, runs: Sequence[Run]) -> None:
        """End the grants of the runs; keep the pages aside while the peer maps them."""
        with self._lock:
            for first, end in runs:
                self._granted[4 * first : 4 * end] = bytes(4 * (end - first))
            self._fences.full()
            if self._is_mapped(peer, runs):
                self._quarantine.append(_Quarantined(peer, runs))
            else:
                self._arena.give_back(runs)

    def stop(self) -> None:
        """End every grant. Pages that peers map stay as they are: nothing is granted any more."""
        with self._lock:
            reserved = 4 * self._arena.page_count
            self._granted[:reserved] = bytes(reserved)

    def _take(self, page_count: int) -> Sequence[Run]:
        try:
            return self._arena.take(page_count)
        except LimitReached:
            if not self._release_quarantined(len(self._quarantine)):
                raise
        return self._arena.take(page_count)

    def _release_quarantined(self, most: int) -> bool:
        """Look at the pages kept aside, the longest kept first; say whether any are free again."""
        released = False
        for _ in range(min(most, len(self._quarantine))):
            each = self._quarantine.popleft()
            if self._is_mapped(each.peer, each.runs):
                self._quarantine.append(each)
            else:
                self._fences.full()  # the peer's last accesses come before our reuse
                self._arena.give_back(each.runs)
                released = True
        return released

    def _is_mapped(self, domid: int, runs: Sequence[Run]) -> bool:
        """Say whether the peer maps a page of the runs, or may for all we can know."""
        try:
            peer = self._peers.get(domid)
        except PlatformError:
            return True
        if peer is None:
            return False  # dead, and its maps with it
        row = peer.find_maps(self._incarnation)
        return row is not None and any(row[first:end].tobytes() != bytes(end - first) for first, end in runs)
