"""Both ends of a data ring, made from its indexes page and its memory."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import NamedTuple

import pytest

from refimpl.data_ring.indexes_page import DRAFT_A, DRAFT_B, PUBLISHED, IndexesPage, PageLayout
from refimpl.data_ring.structure import array_size_bytes
from refimpl.data_ring.workflow import Consumer, Producer, backend_ends, frontend_ends
from refimpl.errors import PeerViolation
from refimpl.fence import fences
from refimpl.platform import PAGE_SIZE

EDGES = (0, 1, 2**31 - 9, 2**31 - 1, 2**31, 2**32 - 9, 2**32 - 1)
LAYOUTS = (PUBLISHED, DRAFT_A, DRAFT_B)


class Connection(NamedTuple):
    page: IndexesPage
    page_memory: memoryview
    ring_memory: memoryview


def make_connection(order: int = 1, layout: PageLayout = PUBLISHED) -> Connection:
    page_memory = memoryview(bytearray(PAGE_SIZE))
    ring_memory = memoryview(bytearray(2 * array_size_bytes(order)))
    return Connection(IndexesPage(page_memory, layout), page_memory, ring_memory)


@pytest.mark.spec("IDXPAGE-8", "IDXPAGE-9", "NORING-2", "DRING-1")
@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.name for layout in LAYOUTS])
def test_in_goes_to_the_frontend_and_out_to_the_backend(layout: PageLayout) -> None:
    page, _, ring_memory = make_connection(layout=layout)
    consumer, producer = frontend_ends(page, ring_memory, fences())
    in_producer, out_consumer = backend_ends(page, ring_memory, fences())
    producer.write(b"request")
    in_producer.write(b"answer!")
    assert bytes(ring_memory[:7]) == b"answer!"
    assert bytes(ring_memory[4096 : 4096 + 7]) == b"request"
    assert out_consumer.read(100)[0] == b"request"
    assert consumer.read(100)[0] == b"answer!"
    assert producer.is_drained
    assert in_producer.is_drained


@pytest.mark.spec("IDXPAGE-10", "IDXPAGE-11", "IDXPAGE-12", "IDXPAGE-13")
def test_each_index_has_one_writer() -> None:
    page, page_memory, ring_memory = make_connection()
    consumer, producer = frontend_ends(page, ring_memory, fences())
    in_producer, out_consumer = backend_ends(page, ring_memory, fences())
    changed = []
    for act in (
        lambda: in_producer.write(b"abc"),
        lambda: consumer.read(3),
        lambda: producer.write(b"defg"),
        lambda: out_consumer.read(4),
    ):
        before = bytes(page_memory)
        act()
        after = bytes(page_memory)
        changed.append({place // 4 * 4 for place in range(PAGE_SIZE) if before[place] != after[place]})
    assert changed == [{4}, {0}, {68}, {64}]


@pytest.mark.erratum("E-IDXINIT")
@pytest.mark.security("SEC-B-11")
@pytest.mark.parametrize("make", [frontend_ends, backend_ends])
@pytest.mark.parametrize("start", EDGES)
def test_ends_start_where_the_page_says(
    make: Callable[..., tuple[Producer | Consumer, Producer | Consumer]], start: int
) -> None:
    page, _, ring_memory = make_connection()
    at, words = page.layout, page.words
    words[at.in_cons], words[at.in_prod] = start, (start + 4096) % 2**32
    words[at.out_cons] = words[at.out_prod] = start
    ends = make(page, ring_memory, fences())
    kinds = {type(end): end for end in ends}
    if make is frontend_ends:
        assert kinds[Consumer].available == 4096
        assert kinds[Producer].free == 4096
    else:
        assert kinds[Producer].free == 0
        assert kinds[Consumer].available == 0
    words[at.in_cons] = (start - 1) % 2**32
    with pytest.raises(PeerViolation) as caught:
        make(page, ring_memory, fences(), 7)
    assert (caught.value.requirement, caught.value.field, caught.value.peer) == ("WORKFLOW-2", "in_prod", 7)
    words[at.in_cons], words[at.out_cons] = start, (start + 1) % 2**32
    with pytest.raises(PeerViolation) as caught:
        make(page, ring_memory, fences(), 7)
    assert (caught.value.field, caught.value.value) == ("out_prod", start)


@pytest.mark.parametrize("make", [frontend_ends, backend_ends])
@pytest.mark.parametrize("broken", ["none", "in_prod", "out_prod"])
def test_ends_hold_nothing_once_released_or_refused(
    make: Callable[..., tuple[Producer, Consumer]], broken: str
) -> None:
    memory = mmap.mmap(-1, 3 * PAGE_SIZE)
    whole = memoryview(memory)
    page_memory, ring_memory = whole[:PAGE_SIZE], whole[PAGE_SIZE:]
    page = IndexesPage(page_memory)
    if broken != "none":
        page.words[getattr(page.layout, broken)] = 4097
    kept = None
    try:
        for end in make(page, ring_memory, fences()):
            end.release()
            end.release()
    except PeerViolation as violation:
        kept = violation  # its traceback keeps the ends alive
    assert (kept is None) == (broken == "none")
    page.release()
    for view in (page_memory, ring_memory, whole):
        view.release()
    memory.close()
