"""A domain's arena: its pages, taken for grants and given back.

A page is either *warm*, backed by memory of the machine, or *cold*, a hole of the sparse segment. Cold pages are
reserved before they are used and come zeroed; warm ones are zeroed when taken. What is given back stays warm up to
:data:`WARM_LIMIT` pages, since making a hole and filling it again costs ten times the zeroing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence

import numpy as np

from refimpl.errors import LimitReached
from refimpl.platform import PAGE_SIZE
from refimpl.shm.page_runs import PageRuns, Run
from refimpl.shm.scattered import map_scattered
from refimpl.shm.segments import FIRST_PAGE, map_segment, reserve

#: Free pages kept backed by memory: 16 MiB, eight data rings of order 9.
WARM_LIMIT = 4096


class Arena:
    """The pages of one arena, whose owner this process is. Not for several threads at once."""

    def __init__(self, descriptor: int, page_count: int) -> None:
        """Take over a fresh segment of ``page_count`` pages. Raises LimitReached."""
        self.descriptor = descriptor
        self.page_count = page_count
        self.mapping = map_segment(descriptor, page_count * PAGE_SIZE, writable=True)
        self._view = memoryview(self.mapping)
        self._bytes = np.frombuffer(self.mapping, np.uint8)
        self._warm = PageRuns()
        self._cold = PageRuns(Run(FIRST_PAGE, page_count))
        reserve(descriptor, 0, FIRST_PAGE * PAGE_SIZE)

    @property
    def free_page_count(self) -> int:
        """How many pages can be taken, in one piece or in several."""
        return self._warm.page_count + self._cold.page_count

    def take(self, page_count: int) -> list[Run]:
        """Take zeroed pages, in one run where there is one. Raises LimitReached with nothing taken."""
        if page_count > self.free_page_count:
            remedy = f"{self.free_page_count} are free: end grants, or join with a bigger arena"
            raise LimitReached("pages in the arena", self.page_count - FIRST_PAGE, remedy)
        warm = self._warm.take(page_count)
        if warm is not None:
            self._bytes[_bytes_of(warm)] = 0
            return [warm]
        return self._take_cold(page_count)

    def _take_cold(self, page_count: int) -> list[Run]:
        run = self._cold.take(page_count)
        if run is None or not self._try_to_reserve([run]):
            # Warm pages may lie between the cold ones, or be what fills /dev/shm.
            self._cool()
            run = self._cold.take(page_count)
            runs = [run] if run is not None else self._cold.take_scattered(page_count)
            self._reserve(runs)
            return runs
        return [run]

    def give_back(self, runs: Iterable[Run]) -> None:
        """Give pages back that nobody uses any more, here or in any peer."""
        for run in runs:
            if self._warm.page_count + run.page_count <= WARM_LIMIT:
                self._warm.add(run)
            else:
                self._make_hole(run)

    def view(self, runs: Sequence[Run]) -> memoryview:
        """Return one writable view of the runs, one after the other. Raises LimitReached."""
        if len(runs) == 1:
            return self._view[_bytes_of(runs[0])]
        return memoryview(map_scattered(self.descriptor, runs, writable=True))

    def _try_to_reserve(self, runs: Sequence[Run]) -> bool:
        try:
            self._reserve(runs)
        except LimitReached:
            if not self._warm.page_count:
                raise
            return False
        return True

    def _reserve(self, runs: Sequence[Run]) -> None:
        """Back the runs, taken from the cold pages, with memory; they are cold again where that fails."""
        try:
            for run in runs:
                reserve(self.descriptor, run.first * PAGE_SIZE, run.page_count * PAGE_SIZE)
        except LimitReached:
            for run in runs:
                self._make_hole(run)
            raise

    def _cool(self) -> None:
        for run in self._warm.take_all():
            self._make_hole(run)

    def _make_hole(self, run: Run) -> None:
        self.mapping.madvise(mmap.MADV_REMOVE, run.first * PAGE_SIZE, run.page_count * PAGE_SIZE)
        self._cold.add(run)


def _bytes_of(run: Run) -> slice:
    return slice(run.first * PAGE_SIZE, run.end * PAGE_SIZE)
