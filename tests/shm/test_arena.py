"""The arena: pages zeroed, reserved before use, and given back to the machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from refimpl.errors import LimitReached
from refimpl.platform import PAGE_SIZE
from refimpl.shm.arena import WARM_LIMIT, Arena
from refimpl.shm.page_runs import Run
from refimpl.shm.segments import FIRST_PAGE

PAGES = 64


class OwnArena:
    """An arena in memory without a name, or in a file, with its descriptor."""

    def __init__(self, page_count: int, folder: Path | None = None) -> None:
        self.descriptor = (
            os.memfd_create("arena") if folder is None else os.open(folder / "arena", os.O_RDWR | os.O_CREAT)
        )
        os.ftruncate(self.descriptor, page_count * PAGE_SIZE)
        self.arena = Arena(self.descriptor, page_count)

    @property
    def backed_page_count(self) -> int:
        return os.fstat(self.descriptor).st_blocks * 512 // PAGE_SIZE

    def close(self) -> None:
        os.close(self.descriptor)


@pytest.fixture
def make() -> Iterator[type[OwnArena]]:
    made: list[OwnArena] = []

    def make(page_count: int = PAGES, folder: Path | None = None) -> OwnArena:
        made.append(OwnArena(page_count, folder))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Takes(RuleBasedStateMachine):
    """Takes pages, dirties them, gives them back; some too big to lie together."""

    def __init__(self) -> None:
        super().__init__()
        self.own = OwnArena(PAGES)
        self.arena = self.own.arena
        self.taken: dict[int, list[Run]] = {}
        self.number = 0

    def teardown(self) -> None:
        self.own.close()

    @property
    def free(self) -> int:
        return PAGES - FIRST_PAGE - sum(run.page_count for runs in self.taken.values() for run in runs)

    @rule(count=st.integers(1, PAGES))
    def take(self, count: int) -> None:
        if count > self.free:
            with pytest.raises(LimitReached, match="pages in the arena"):
                self.arena.take(count)
            return
        runs = self.arena.take(count)
        pages = [page for run in runs for page in range(*run)]
        assert len(set(pages)) == len(pages) == count
        assert min(pages) >= FIRST_PAGE
        assert max(pages) < PAGES
        taken = {page for others in self.taken.values() for run in others for page in range(*run)}
        assert taken.isdisjoint(pages)
        view = self.arena.view(runs)
        assert len(view) == count * PAGE_SIZE
        assert bytes(view) == bytes(len(view))
        self.number += 1
        view[:] = bytes((self.number % 255 + 1,)) * len(view)
        self.taken[self.number] = runs

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give_back(self, data) -> None:
        number = data.draw(st.sampled_from(sorted(self.taken)))
        runs = self.taken.pop(number)
        view = self.arena.view(runs)
        assert bytes(view) == bytes((number % 255 + 1,)) * len(view)
        view.release()
        self.arena.give_back(runs)

    @invariant()
    def all_pages_are_taken_or_free(self) -> None:
        assert self.arena.free_page_count == self.free


TestTakes = Takes.TestCase
TestTakes.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_only_pages_taken_are_backed_by_memory(make) -> None:
    own = make(1 << 12)
    assert own.backed_page_count == FIRST_PAGE
    own.arena.take(100)
    assert own.backed_page_count == FIRST_PAGE + 100


def test_pages_given_back_beyond_the_warm_ones_leave_memory(make) -> None:
    own = make(3 * WARM_LIMIT)
    taken = [own.arena.take(WARM_LIMIT // 2) for _ in range(4)]
    for runs in taken:
        own.arena.give_back(runs)
    assert own.backed_page_count == FIRST_PAGE + WARM_LIMIT
    assert own.arena.free_page_count == 3 * WARM_LIMIT - FIRST_PAGE


def test_arena_in_pieces_gives_pages_that_look_contiguous(make) -> None:
    arena = make(PAGES).arena
    taken = [arena.take(1) for _ in range(PAGES - FIRST_PAGE)]
    for runs in taken[::2]:
        arena.give_back(runs)
    runs = arena.take(len(taken) // 2)
    assert len(runs) == len(taken) // 2
    view = arena.view(runs)
    view[PAGE_SIZE - 1 : PAGE_SIZE + 1] = b"xy"
    assert arena.mapping[runs[0].end * PAGE_SIZE - 1] == ord("x")
    assert arena.mapping[runs[1].first * PAGE_SIZE] == ord("y")


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """Mount a tmpfs of a megabyte."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a small tmpfs to fill")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_full_memory_is_a_limit_and_no_signal(make, small_tmpfs) -> None:
    arena = make(1 << 12, small_tmpfs).arena
    runs = arena.take(200)
    arena.view(runs)[:] = b"x" * 200 * PAGE_SIZE
    with pytest.raises(LimitReached, match="is full"):
        arena.take(200)
    (small_tmpfs / "other").write_bytes(bytes(10 * PAGE_SIZE))
    with pytest.raises(LimitReached, match="is full"):
        arena.take(40)
    arena.give_back(runs)
    # The pages kept warm are what fills it now, and do not fit together with cold ones.
    assert sum(run.page_count for run in arena.take(230)) == 230


def test_too_full_for_an_arena_at_all(make, small_tmpfs) -> None:
    (small_tmpfs / "other").write_bytes(bytes((1 << 20) - 4 * PAGE_SIZE))
    with pytest.raises(LimitReached, match="is full"):
        make(1 << 12, small_tmpfs)
