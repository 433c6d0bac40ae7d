"""Sizes and halves of a data ring, against the C header's macro and the document's own structure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from refimpl.data_ring.structure import array_size_bytes, page_count, split
from refimpl.errors import Misuse
from refimpl.platform import PAGE_SIZE

ORDERS = range(1, 10)


@pytest.mark.spec("DRING-1", "IDXPAGE-7")
@pytest.mark.erratum("E-PAGESIZE")
def test_arrays_are_as_large_as_the_headers(c_values: Callable[[list[str]], list[int]]) -> None:
    expected = c_values([f"XEN_FLEX_RING_SIZE({order})" for order in ORDERS])
    assert [array_size_bytes(order) for order in ORDERS] == expected
    assert expected[0] == 4096
    assert expected[-1] == 1 << 20


@pytest.mark.spec("IDXPAGE-3", "IDXPAGE-6")
@pytest.mark.parametrize("order", ORDERS)
def test_both_arrays_together_take_all_pages(order: int) -> None:
    assert 2 * array_size_bytes(order) == page_count(order) * PAGE_SIZE
    assert page_count(order) == 2**order


@pytest.mark.spec("IDX-6", "DRING-1", "IDXPAGE-6")
@pytest.mark.erratum("E-ARRAYS")
@pytest.mark.parametrize("order", [1, 2, 9])
def test_in_is_the_first_half_and_out_the_second(order: int) -> None:
    memory = memoryview(bytearray(page_count(order) * PAGE_SIZE))
    in_array, out_array = split(memory)
    in_array[0], in_array[-1], out_array[0], out_array[-1] = 1, 2, 3, 4
    half = array_size_bytes(order)
    assert [memory[place] for place in (0, half - 1, half, 2 * half - 1)] == [1, 2, 3, 4]
    assert bytes(memory).count(0) == 2 * half - 4


@pytest.mark.spec("IDXPAGE-5", "IDXPAGE-7")
@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE, 2 * PAGE_SIZE - 1, 3 * PAGE_SIZE, 6 * PAGE_SIZE])
def test_other_sizes_are_no_data_ring(size: int) -> None:
    with pytest.raises(Misuse, match=f"not {size} bytes"):
        split(memoryview(bytearray(size)))
