"""Free pages as runs."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from refimpl.shm.page_runs import PageRuns, Run

LIMIT = 64


class Pages(RuleBasedStateMachine):
    """Takes and gives back, against a plain set."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = PageRuns(Run(0, LIMIT))
        self.free = set(range(LIMIT))
        self.taken: list[Run] = []

    def _took(self, run: Run) -> None:
        assert self.free.issuperset(range(*run))
        self.free.difference_update(range(*run))
        self.taken.append(run)

    @rule(count=st.integers(1, LIMIT))
    def take(self, count: int) -> None:
        fits = any(self.free.issuperset(range(first, first + count)) for first in range(LIMIT - count + 1))
        run = self.runs.take(count)
        assert (run is not None) == fits
        if run is not None:
            assert run.page_count == count
            self._took(run)

    @precondition(lambda self: self.free)
    @rule(data=st.data())
    def take_scattered(self, data) -> None:
        count = data.draw(st.integers(1, len(self.free)))
        longest = max(run.page_count for run in self.runs)
        runs = self.runs.take_scattered(count)
        assert sum(run.page_count for run in runs) == count
        assert runs[0].page_count == min(count, longest)
        for run in runs:
            self._took(run)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def add(self, data) -> None:
        run = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.runs.add(run)
        self.free.update(range(*run))

    @rule()
    def take_all(self) -> None:
        for run in self.runs.take_all():
            self._took(run)
        assert not self.free

    @invariant()
    def runs_are_the_set_in_order_and_joined(self) -> None:
        runs = list(self.runs)
        assert [page for run in runs for page in range(*run)] == sorted(self.free)
        assert all(one.end < other.first for one, other in pairwise(runs))
        assert self.runs.page_count == len(self.free)


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_lowest_run_that_is_long_enough_is_taken() -> None:
    runs = PageRuns(Run(0, 2), Run(10, 15), Run(20, 40))
    assert runs.take(3) == Run(10, 13)
    assert runs.take(3) == Run(20, 23)
    assert runs.take(2) == Run(0, 2)
    assert runs.take(18) is None
