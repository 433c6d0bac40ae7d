"""The mapper's side of the grant table: a peer's pages, contiguous and in the order of the refs.

For each granter there is a row of bytes in our own tables, one a page, that counts our maps of it; see :mod:`.grants`
for how the two sides agree. Consecutive refs are consecutive pages of the granter's arena, so that a map of them is a
check and a slice.
"""

from __future__ import annotations

import mmap
import threading
from array import array
from collections.abc import Sequence
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt

from refimpl.errors import GrantRefused, LimitReached, Misuse
from refimpl.platform import PAGE_SIZE, Fences, MappedPages
from refimpl.shm.lifetime import Lifetime
from refimpl.shm.peers import Peer, Peers
from refimpl.shm.scattered import map_scattered, runs_of
from refimpl.shm.segments import FIRST_PAGE, GRANTER_COUNT, LARGEST_ARENA, PAGE_BITS, reserve, table_offset
from refimpl.shm.tables import WRITABLE, Tables, grant_word

#: Pages in one map; a ref may be among them more than once.
MOST_PAGES = 1 << 16
#: Runs of consecutive pages in all maps of one granter's scattered pages. Each is a mapping of the process, which may
#: have 65 530 (vm.max_map_count): one granter must leave some to the others.
MOST_RUNS = 4096
_MOST_MAPS_OF_A_PAGE = 255
_PAGE_MASK = (1 << PAGE_BITS) - 1

_Where = slice | npt.NDArray[Any]
_Times = int | npt.NDArray[Any]


class _Row:
    """How many maps we have of each page of one granter. Under the mapper's lock."""

    def __init__(self, place: int, granter: Peer, counts: memoryview) -> None:
        self.place = place
        self.domid = granter.domid
        self.incarnation = granter.incarnation
        #: Runs of scattered pages that are mapped.
        self.run_count = 0
        self._counts = counts
        self._array = np.frombuffer(counts, np.uint8)

    @property
    def in_use(self) -> bool:
        """Whether any page is mapped."""
        return bool(self._array.any())

    def hold(self, where: _Where, times: _Times) -> None:
        """Count maps more of different pages. Raises LimitReached with nothing counted."""
        if isinstance(where, slice) and self._replace(where, 0, 1):
            return
        counts = self._array[where].astype(np.int64) + times
        if (counts > _MOST_MAPS_OF_A_PAGE).any():
            raise LimitReached("maps of one page", _MOST_MAPS_OF_A_PAGE, "unmap some")
        self._array[where] = counts

    def let_go(self, where: _Where, times: _Times) -> None:
        """Count maps less of different pages."""
        if isinstance(where, slice) and self._replace(where, 1, 0):
            return
        self._array[where] = self._array[where] - times

    def clear(self) -> None:
        """Count no maps."""
        self._array[:] = 0

    def _replace(self, run: slice, old: int, new: int) -> bool:
        """Change the counts of consecutive pages if all of them are ``old``: what nearly every map finds."""
        count = run.stop - run.start
        if self._counts[run].tobytes() != bytes((old,)) * count:
            return False
        self._counts[run] = bytes((new,)) * count
        return True


class ShmMappedPages(MappedPages):
    """Pages of a peer's arena."""

    def __init__(
        self,
        mapper: Mapper,
        row: _Row,
        where: _Where,
        times: _Times,
        memory: memoryview,
        mapping: mmap.mmap | None = None,
        run_count: int = 0,
    ) -> None:
        self.peer = row.domid
        self.memory = memory
        self._mapper: Mapper | None = mapper
        self._held = row, where, times, run_count
        self._mapping = mapping

    def unmap(self) -> None:
        """Unmap the pages. Raises Misuse, with all still mapped, where a view of ``memory`` is seen to be left.

        Not seen are slices and casts where the pages lie together, which then are somebody else's, and numpy's arrays
        anywhere: to use one after a map of scattered pages ends the process.
        """
        mapper, self._mapper = self._mapper, None
        if mapper is None or not mapper.lifetime.lasts():
            return
        try:
            self.memory.release()
            if self._mapping is not None:
                self._mapping.close()
        except BufferError as error:
            self._mapper = mapper
            raise Misuse("release every view of the mapped pages before unmapping them") from error
        mapper.let_go(*self._held)


class Mapper:
    """Maps the pages that peers grant to this domain. Safe from several threads."""

    def __init__(
        self, lifetime: Lifetime, domid: int, tables: Tables, descriptor: int, peers: Peers, fences: Fences
    ) -> None:
        """Map for the domain whose ``tables`` these are, in the segment that ``descriptor`` is of."""
        self.lifetime = lifetime
        self._tables = tables
        self._descriptor = descriptor
        self._peers = peers
        self._fences = fences
        self._domid = domid
        self._rows: dict[int, _Row] = {}
        self._lock = threading.Lock()

    def map(self, domid: int, refs: Sequence[int], *, writable: bool) -> ShmMappedPages:
        """Map all the refs or none. Raises GrantRefused, LimitReached, Misuse."""
        if not 0 < len(refs) <= MOST_PAGES:
            raise Misuse(f"a map has 1 to {MOST_PAGES} pages, not {len(refs)}")
        try:
            words = array("I", refs)
        except OverflowError as error:
            raise GrantRefused(domid, tuple(refs)) from error
        peer = self._peers.get(domid)
        mapped = self._map(peer, words, writable) if peer is not None else None
        if mapped is None:
            raise GrantRefused(domid, tuple(refs))
        return mapped

    def _map(self, peer: Peer, words: array[int], writable: bool) -> ShmMappedPages | None:
        first, count = words[0], len(words)
        run = slice(first & _PAGE_MASK, (first & _PAGE_MASK) + count)
        with self._lock:
            row = self._row(peer)
            if run.stop <= peer.page_count and (count == 1 or words.tobytes() == _consecutive(first, count)):
                return self._map_run(peer, row, run, first >> PAGE_BITS, writable)
            return self._map_scattered(peer, row, np.frombuffer(words, np.uint32), writable)

    def let_go(self, row: _Row, where: _Where, times: _Times, run_count: int) -> None:
        """Tell the granter that a map is over, which had so many runs."""
        with self._lock:
            row.run_count -= run_count
            self._fences.full()  # our last accesses come before its reuse
            row.let_go(where, times)

    def stop(self) -> None:
        """Let every granter know that nothing is mapped here any more."""
        with self._lock:
            self._fences.full()
            for row in self._rows.values():
                row.clear()

    def _map_run(self, peer: Peer, row: _Row, run: slice, generation: int, writable: bool) -> ShmMappedPages | None:
        if run.start < FIRST_PAGE:
            return None
        row.hold(run, 1)
        self._fences.full()
        found = peer.tables.granted[4 * run.start : 4 * run.stop].tobytes()
        expected = grant_word(self._domid, generation, writable=True)
        if found != pack("=I", expected) * (run.stop - run.start) and (
            writable or not _allow_reading(np.frombuffer(found, np.uint32), expected)
        ):
            row.let_go(run, 1)
            return None
        memory = peer.arena[run.start * PAGE_SIZE : run.stop * PAGE_SIZE]
        if not writable:
            memory = memory.toreadonly()
        return ShmMappedPages(self, row, run, 1, memory)

    def _map_scattered(self, peer: Peer, row: _Row, refs: npt.NDArray[Any], writable: bool) -> ShmMappedPages | None:
        pages = refs & _PAGE_MASK
        where, times = np.unique(pages, return_counts=True)
        if where[0] < FIRST_PAGE or where[-1] >= peer.page_count:
            return None
        row.hold(where, times)
        try:
            self._fences.full()
            found = peer.tables.granted_words[pages]
            expected = grant_word(self._domid, refs >> PAGE_BITS, writable=True)
            if not (np.array_equal(found, expected) if writable else _allow_reading(found, expected)):
                row.let_go(where, times)
                return None
            runs = runs_of(pages)
            if row.run_count + len(runs) > MOST_RUNS:  # SEC-B-6
                raise LimitReached("runs of one domain's scattered pages", MOST_RUNS, "unmap some")
            mapping = map_scattered(peer.descriptor, runs, writable=writable)
            row.run_count += len(runs)
        except LimitReached:
            row.let_go(where, times)
            raise
        memory = memoryview(mapping)
        if not writable:
            memory = memory.toreadonly()  # to Python; to the processor the pages are that already
        return ShmMappedPages(self, row, where, times, memory, mapping, len(runs))

    def _row(self, peer: Peer) -> _Row:
        row = self._rows.get(peer.incarnation)
        if row is None:
            place = self._free_place()
            offset = table_offset("maps") + place * LARGEST_ARENA
            reserve(self._descriptor, offset, peer.page_count)
            row = self._rows[peer.incarnation] = _Row(place, peer, self._tables.maps_row(place))
            self._tables.granters[place] = peer.incarnation
        return row

    def _free_place(self) -> int:
        """Return a row that nothing is counted in. Raises LimitReached."""
        for row in self._rows.values():
            if not self._peers.is_alive(row.domid, row.incarnation) and not row.in_use:
                del self._rows[row.incarnation]
                return row.place
        free = set(range(GRANTER_COUNT)).difference(row.place for row in self._rows.values())
        if not free:
            raise LimitReached("domains that pages are mapped of", GRANTER_COUNT, "unmap those of dead ones")
        return min(free)


def _consecutive(first: int, count: int) -> bytes:
    return np.arange(first, first + count, dtype=np.uint32).tobytes()


def _allow_reading(words: npt.NDArray[Any], for_writing: int | npt.NDArray[Any]) -> bool:
    """Say whether all the words are as expected, or so but for the right to write."""
    return bool(((words | WRITABLE) == for_writing).all())
