"""Free pages as runs: the lowest run that is long enough is taken, neighbours given back are joined."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple


class Run(NamedTuple):
    """Pages ``first`` to ``end - 1``."""

    first: int
    end: int

    @property
    def page_count(self) -> int:
        """How many pages there are."""
        return self.end - self.first


class PageRuns:
    """A set of pages, kept as runs in order of which no two touch."""

    def __init__(self, *runs: Run) -> None:
        #: How many pages there are in all.
        self.page_count = 0
        self._runs: list[Run] = []
        for run in runs:
            self.add(run)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def take(self, page_count: int) -> Run | None:
        """Remove pages that lie together, and return them; None where there are none such."""
        for place, run in enumerate(self._runs):
            if run.page_count >= page_count:
                return self._take_from(place, page_count)
        return None

    def take_scattered(self, page_count: int) -> list[Run]:
        """Remove pages in as few runs as can be, and return them; there must be as many."""
        taken = []
        while page_count:
            place = max(range(len(self._runs)), key=lambda place: self._runs[place].page_count)
            taken.append(self._take_from(place, min(page_count, self._runs[place].page_count)))
            page_count -= taken[-1].page_count
        return taken

    def take_all(self) -> list[Run]:
        """Remove every page, and return the runs."""
        runs, self._runs, self.page_count = self._runs, [], 0
        return runs

    def add(self, run: Run) -> None:
        """Put in pages that are not there."""
        place = bisect_left(self._runs, run)
        low, high = place, place
        first, end = run
        if place and self._runs[place - 1].end == first:
            low, first = place - 1, self._runs[place - 1].first
        if place < len(self._runs) and self._runs[place].first == end:
            high, end = place + 1, self._runs[place].end
        self._runs[low:high] = [Run(first, end)]
        self.page_count += run.page_count

    def _take_from(self, place: int, page_count: int) -> Run:
        run = self._runs[place]
        taken, left = Run(run.first, run.first + page_count), Run(run.first + page_count, run.end)
        self._runs[place : place + 1] = [left] if left.page_count else []
        self.page_count -= page_count
        return taken
