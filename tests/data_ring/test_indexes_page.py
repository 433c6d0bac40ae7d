"""The indexes page against the C header, the document's own structure, and frontends that lie."""

from __future__ import annotations

import html
import mmap
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.data_ring.indexes_page import (
    DATA_INTF,
    DRAFT_A,
    DRAFT_B,
    MAX_RING_ORDER,
    PUBLISHED,
    IndexesPage,
    PageLayout,
    recognise_draft_layout,
)
from refimpl.errors import Misuse, PeerViolation
from refimpl.platform import PAGE_SIZE

DOCUMENT = Path("/usr/share/doc/xen/html/misc/pvcalls.html")
MEMBERS = ("in_cons", "in_prod", "in_error", "out_cons", "out_prod", "out_error", "ring_order", "ref")
LAYOUTS = (PUBLISHED, DRAFT_A, DRAFT_B)
NAMES = [layout.name for layout in LAYOUTS]


def fresh_page() -> memoryview:
    return memoryview(bytearray(PAGE_SIZE))


def described(ring_order: int, refs: list[int], layout: PageLayout = PUBLISHED) -> memoryview:
    """A page as a frontend that may lie leaves it."""
    page = fresh_page()
    words = page.cast("I")
    words[layout.ring_order] = ring_order
    for place, ref in enumerate(refs[:512]):
        words[layout.ref + place] = ref
    return page


# ------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.spec("IDXPAGE-1")
@pytest.mark.erratum("E-OFFSET")
def test_page_is_laid_out_as_the_c_compiler_does(c_values: Callable[[list[str]], list[int]]) -> None:
    found = c_values([f"offsetof(struct pvcalls_data_intf, {member})" for member in MEMBERS])
    assert found == [DATA_INTF.offset_of(member) for member in MEMBERS]
    assert found == [4 * getattr(PUBLISHED, member) for member in MEMBERS]
    assert found == [0, 4, 8, 64, 68, 72, 128, 132]


@pytest.mark.spec("IDXPAGE-1", "IDXPAGE-2")
@pytest.mark.erratum("E-INTTYPE", "E-OFFSET")
def test_page_is_the_structure_the_document_prints() -> None:
    cstruct = pytest.importorskip("dissect.cstruct", reason="package dissect.cstruct is not installed").cstruct
    if not DOCUMENT.exists():
        pytest.skip("package xen-doc is not installed")
    text = html.unescape(re.sub(r"</?(?!string|uint32_t)[a-z][^>]*>", "", DOCUMENT.read_text()))
    printed = re.search(r"struct pvcalls_data_intf \{.*?\n\};", text, re.DOTALL)
    assert printed is not None
    # Two members called pad are no C (E-INTTYPE).
    source = printed.group().replace("pad[52]", "pad1[52]", 1).replace("pad[52]", "pad2[52]", 1)
    source = source.replace("ref[]", "ref[512]")
    source = re.sub(r"(\w+) (\w+), (\w+);", r"\1 \2; \1 \3;", source)
    parsed = cstruct("typedef uint32_t PVCALLS_RING_IDX; typedef uint32_t grant_ref_t;\n" + source)
    fields = parsed.pvcalls_data_intf.fields
    assert {name: fields[name].offset for name in MEMBERS} == {name: DATA_INTF.offset_of(name) for name in MEMBERS}
    example = parsed.pvcalls_data_intf(in_error=-107, out_error=-104, ring_order=1, ref=[8, 9] + [0] * 510)
    page = fresh_page()
    ours = IndexesPage(page)
    ours.describe_ring(1, [8, 9])
    ours.in_error, ours.out_error = -107, -104
    assert example.dumps() == bytes(page[: len(example.dumps())])


@pytest.mark.spec("IDXPAGE-19")
@pytest.mark.erratum("E-REFCOUNT")
def test_nine_is_the_largest_order_whose_refs_fit() -> None:
    room = (PAGE_SIZE - DATA_INTF.offset_of("ref")) // 4
    assert room == 991
    assert 2**MAX_RING_ORDER <= room < 2 ** (MAX_RING_ORDER + 1)
    assert DATA_INTF.size == PAGE_SIZE


def test_drafts_had_other_offsets() -> None:
    assert [4 * word for word in DRAFT_A[1:]] == [0, 4, 16, 8, 12, 20, 24, 28]
    assert [4 * word for word in DRAFT_B[1:]] == [0, 4, 8, 64, 68, 72, 76, 80]


@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
@pytest.mark.parametrize("ring_order", range(1, MAX_RING_ORDER + 1))
def test_a_drafts_page_is_recognised(layout: PageLayout, ring_order: int) -> None:
    page = fresh_page()
    IndexesPage(page, layout).describe_ring(ring_order, range(8, 8 + 2**ring_order))
    assert recognise_draft_layout(bytes(page)) == layout


def test_an_empty_page_counts_as_published() -> None:
    assert recognise_draft_layout(bytes(PAGE_SIZE)) == PUBLISHED


# -------------------------------------------------------------------------------------------------- the description


@pytest.mark.spec("IDXPAGE-1", "IDXPAGE-3", "IDX-4")
def test_described_page_is_the_golden_one() -> None:
    page = fresh_page()
    IndexesPage(page).describe_ring(2, [10, 11, 0xFFFFFFFF, 8])
    golden = bytes(128) + bytes.fromhex("02000000 0a000000 0b000000 ffffffff 08000000")
    assert bytes(page) == golden.ljust(PAGE_SIZE, b"\0")


@pytest.mark.spec("IDXPAGE-3", "IDXPAGE-4", "IDX-4")
@given(st.integers(1, MAX_RING_ORDER), st.sampled_from(LAYOUTS), st.data())
def test_what_was_described_is_read(ring_order: int, layout: PageLayout, data: st.DataObject) -> None:
    count = 2**ring_order
    refs = tuple(data.draw(st.permutations([2**32 - 1, *range(8, 7 + count)])))
    page = IndexesPage(fresh_page(), layout)
    page.describe_ring(ring_order, refs)
    assert page.read_ring_description(MAX_RING_ORDER, forbidden_refs=(7,)) == (ring_order, refs)


@pytest.mark.spec("IDXPAGE-19", "IDXPAGE-3")
@pytest.mark.parametrize(("ring_order", "count"), [(0, 1), (10, 1024), (-1, 0), (1, 1), (1, 3), (9, 511)])
def test_frontend_describes_no_impossible_ring(ring_order: int, count: int) -> None:
    page = fresh_page()
    with pytest.raises(Misuse):
        IndexesPage(page).describe_ring(ring_order, range(count))
    assert bytes(page) == bytes(PAGE_SIZE)


@pytest.mark.spec("IDXPAGE-4", "IDXPAGE-5")
@pytest.mark.erratum("E-ORDER0", "E-MAXORDER")
@pytest.mark.security("SEC-B-7")
@pytest.mark.parametrize("max_order", [1, 4, 9, 12, 2**32 - 1])
@pytest.mark.parametrize("ring_order", [0, 5, 9, 10, 31, 32, 2**31, 2**32 - 1])
def test_backend_refuses_orders_it_did_not_offer(ring_order: int, max_order: int) -> None:
    page = IndexesPage(described(ring_order, list(range(512))), peer=7)
    highest = min(max_order, MAX_RING_ORDER)
    if 1 <= ring_order <= highest:
        assert page.read_ring_description(max_order) == (ring_order, tuple(range(2**ring_order)))
        return
    with pytest.raises(PeerViolation) as caught:
        page.read_ring_description(max_order)
    violation = caught.value
    assert (violation.field, violation.value, violation.peer) == ("ring_order", ring_order, 7)
    assert violation.requirement == ("IDXPAGE-4" if ring_order else "IDXPAGE-5")
    assert str(highest) in violation.allowed


@pytest.mark.security("SEC-B-7")
@pytest.mark.parametrize(("refs", "named"), [([8, 8, 9, 10], 8), ([8, 9, 10, 9], 9), ([0, 0, 0, 0], 0)])
def test_backend_refuses_a_grant_listed_twice(refs: list[int], named: int) -> None:
    with pytest.raises(PeerViolation, match="SEC-B-7") as caught:
        IndexesPage(described(2, refs)).read_ring_description(9)
    assert (caught.value.field, caught.value.value) == ("ref", named)


@pytest.mark.security("SEC-B-7")
@pytest.mark.parametrize("forbidden", [{10}, (5, 11), [8, 9, 10, 11]])
def test_backend_refuses_pages_in_use_as_something_else(forbidden: set[int] | tuple[int, ...] | list[int]) -> None:
    with pytest.raises(PeerViolation, match="in use otherwise") as caught:
        IndexesPage(described(2, [8, 9, 10, 11])).read_ring_description(9, forbidden)
    assert caught.value.field == "ref"
    assert caught.value.value in forbidden


class ChangingPage:
    """A page that a hostile frontend rewrites after each time it is looked at."""

    def __init__(self, page: memoryview) -> None:
        self._page = page
        self.looks = 0

    def __len__(self) -> int:
        return len(self._page)

    def __getitem__(self, part: slice) -> ChangingPage | memoryview:
        if part == slice(None):
            return self
        self.looks += 1
        before = bytes(self._page[part])
        self._page[:] = b"\xff" * PAGE_SIZE
        return memoryview(before)

    def cast(self, code: str) -> memoryview:
        return self._page.cast(code)


@pytest.mark.security("SEC-B-7")
def test_description_is_copied_once() -> None:
    page = ChangingPage(described(2, [8, 9, 10, 11]))
    assert IndexesPage(page).read_ring_description(9) == (2, (8, 9, 10, 11))  # type: ignore[arg-type]
    assert page.looks == 1


# ------------------------------------------------------------------------------------------------------ live words


@pytest.mark.spec("IDXPAGE-2", "IDXPAGE-14")
@pytest.mark.erratum("E-SIGN", "E-INTTYPE")
@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
@pytest.mark.parametrize("error", [0, -107, 107, -1, -(2**31), 2**31 - 1])
def test_errors_are_signed_words_at_their_places(layout: PageLayout, error: int) -> None:
    memory = fresh_page()
    page = IndexesPage(memory, layout)
    page.in_error, page.out_error = error, 5
    assert (page.in_error, page.out_error) == (error, 5)
    expected = bytearray(PAGE_SIZE)
    struct.pack_into("<i", expected, 4 * layout.in_error, error)
    struct.pack_into("<i", expected, 4 * layout.out_error, 5)
    assert bytes(memory) == bytes(expected)


@pytest.mark.parametrize("error", [2**31, -(2**31) - 1])
def test_an_error_that_is_no_int32_is_not_written(error: int) -> None:
    memory = fresh_page()
    with pytest.raises(ValueError):
        IndexesPage(memory).in_error = error
    assert bytes(memory) == bytes(PAGE_SIZE)


@pytest.mark.parametrize("size", [0, PAGE_SIZE - 4, 2 * PAGE_SIZE])
def test_indexes_page_is_one_page(size: int) -> None:
    with pytest.raises(Misuse, match=str(size)):
        IndexesPage(memoryview(bytearray(size)))


def test_released_page_holds_nothing() -> None:
    memory = mmap.mmap(-1, PAGE_SIZE)
    with memoryview(memory) as view:
        page = IndexesPage(view)
        page.describe_ring(1, [8, 9])
        assert page.read_ring_description(1) == (1, (8, 9))
        page.release()
        page.release()
    memory.close()
