"""Both ends of a commands ring on one page of plain memory, for tests of the ring alone.

Spec: Commands Ring.
"""

from __future__ import annotations

from typing import NamedTuple

from refimpl.commands.ring import RESPONSE_SIZE_BYTES, SLOT_SIZE_BYTES, BackRing, FrontRing
from refimpl.fence import fences
from refimpl.platform import PAGE_SIZE

#: The words of the page, by their numbers.
REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT = range(4)
#: Where free-running indexes go wrong, if they do.
EDGES = (0, 1, 2**31 - 33, 2**31 - 1, 2**31, 2**32 - 33, 2**32 - 2, 2**32 - 1)


class Ends(NamedTuple):
    """A page, the words it begins with, and the two ends on it."""

    page: memoryview
    words: memoryview
    front: FrontRing
    back: BackRing


def make_ends(start_index: int = 0) -> Ends:
    """Initialise a page that held something else, with all indexes at ``start_index``."""
    page = memoryview(bytearray(b"\xa5" * PAGE_SIZE))
    front = FrontRing(page, fences(), peer=0, start_index=start_index)
    front.initialise()
    return Ends(page, page.cast("I"), front, BackRing(page, fences(), peer=7, start_index=start_index))


def request(number: int) -> bytes:
    """Return a slot's worth of bytes that tells its number."""
    return bytes([number & 0xFF]) * SLOT_SIZE_BYTES


def response(number: int) -> bytes:
    """Return a response's worth of bytes that tells its number."""
    return bytes([number & 0xFF]) * RESPONSE_SIZE_BYTES


def take_all(back: BackRing) -> list[bytes]:
    """Take every request there is."""
    return list(iter(back.take_request, None))
