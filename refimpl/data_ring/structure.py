"""Section *Data Ring Structure*: contiguous pages, the first half is ``in``, the second half ``out``.

    0                     half                  2 * half
    | in: backend writes  | out: frontend writes |          half = 2**ring_order pages / 2

Spec: Indexes Page and Data ring > Data Ring Structure.
"""

from __future__ import annotations

from refimpl.errors import Misuse
from refimpl.platform import PAGE_SHIFT, PAGE_SIZE


def page_count(ring_order: int) -> int:
    """Return how many pages, and so grants, a data ring has."""
    return 1 << ring_order  # IDXPAGE-3


def array_size_bytes(ring_order: int) -> int:
    """Return the size of each of the two arrays: half of the pages, a power of two."""
    return (1 << ring_order << PAGE_SHIFT) // 2  # DRING-1, IDXPAGE-7


def split(ring_memory: memoryview) -> tuple[memoryview, memoryview]:
    """Return views of the ``in`` and the ``out`` array. Raises Misuse where the memory is no data ring's.

    The views are the caller's to release.
    """
    half = len(ring_memory) // 2
    if half < PAGE_SIZE or len(ring_memory) & (len(ring_memory) - 1):  # IDXPAGE-5, IDXPAGE-7
        raise Misuse(f"a data ring is 2, 4, 8... pages of {PAGE_SIZE} bytes, not {len(ring_memory)} bytes")
    return ring_memory[:half], ring_memory[half:]  # IDX-6, IDXPAGE-6
