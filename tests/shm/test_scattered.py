"""Contiguous views of scattered pages."""

from __future__ import annotations

import mmap
import os
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import LimitReached
from refimpl.platform import PAGE_SIZE
from refimpl.shm.page_runs import Run
from refimpl.shm.scattered import map_scattered, runs_of

PAGES = 24


@pytest.fixture(scope="module")
def numbered_pages():
    """A file whose every page says its number throughout."""
    descriptor = os.memfd_create("pages")
    for page in range(PAGES):
        os.pwrite(descriptor, bytes((page,)) * PAGE_SIZE, page * PAGE_SIZE)
    yield descriptor
    os.close(descriptor)


@given(pages=st.lists(st.integers(0, PAGES - 1), min_size=1, max_size=40))
def test_pages_appear_in_their_order(numbered_pages, pages) -> None:
    runs = runs_of(np.array(pages, np.uint32))
    assert [page for run in runs for page in range(*run)] == pages
    assert all(one.end != other.first for one, other in pairwise(runs))
    with map_scattered(numbered_pages, runs, writable=True) as mapping:
        assert mapping[:] == b"".join(bytes((page,)) * PAGE_SIZE for page in pages)


def test_writes_reach_the_pages(numbered_pages) -> None:
    with map_scattered(numbered_pages, [Run(7, 8), Run(3, 5)], writable=True) as mapping:
        before = mapping[PAGE_SIZE - 2 : PAGE_SIZE + 2]
        mapping[PAGE_SIZE - 2 : PAGE_SIZE + 2] = b"edge"
        assert os.pread(numbered_pages, 2, 8 * PAGE_SIZE - 2) == b"ed"
        assert os.pread(numbered_pages, 2, 3 * PAGE_SIZE) == b"ge"
        mapping[PAGE_SIZE - 2 : PAGE_SIZE + 2] = before


def test_closing_unmaps_every_run(numbered_pages) -> None:
    def mapped() -> int:
        with open("/proc/self/maps") as maps:
            return sum("memfd:pages" in line for line in maps)

    before = mapped()
    mapping = map_scattered(numbered_pages, [Run(page, page + 1) for page in range(0, PAGES, 2)], writable=True)
    assert mapped() == before + PAGES // 2
    mapping.close()
    assert mapped() == before


def test_pages_mapped_for_reading_are_so_to_the_processor(numbered_pages) -> None:
    mapping = map_scattered(numbered_pages, [Run(2, 3), Run(0, 1)], writable=False)
    address = np.frombuffer(mapping, np.uint8).ctypes.data
    with open("/proc/self/maps") as maps:
        (line,) = (line for line in maps if line.startswith(f"{address:x}-"))
    assert line.split()[1] == "r--s"


def test_too_many_runs_are_a_limit_and_leave_nothing() -> None:
    descriptor = os.memfd_create("sparse")
    try:
        os.ftruncate(descriptor, 1 << 30)
        with open("/proc/sys/vm/max_map_count") as limit:
            count = int(limit.read())
        if count > 1 << 17:
            pytest.skip("vm.max_map_count allows more mappings than a test should make")
        runs = [Run(page, page + 1) for page in range(0, 2 * count, 2)]
        with pytest.raises(LimitReached, match="max_map_count"):
            map_scattered(descriptor, runs, writable=True)
        # There is room again.
        mmap.mmap(-1, PAGE_SIZE).close()
        map_scattered(descriptor, runs[: count // 2], writable=True).close()
    finally:
        os.close(descriptor)


def test_other_failures_are_no_limit(numbered_pages) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        map_scattered(-1, [Run(0, 1)], writable=True)
