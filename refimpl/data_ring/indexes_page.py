"""Section *Indexes Page Structure*: a socket's indexes, its two errors, and the grants of its data ring.

The frontend fills in ``ring_order`` and ``ref[]`` before connect or accept and never changes them again. Afterwards
each of the other words has one writer: in_cons and out_prod the frontend; in_prod, in_error, out_cons and out_error
the backend. Those are live: one aligned 32-bit access each, never a struct format over shared memory.

The drafts of the protocol had the same members at other places. They are here as two more tables of offsets, for use
behind an explicit switch only.

Spec: Indexes Page and Data ring > Indexes Page Structure.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from typing import NamedTuple, Self

from refimpl.data_ring.structure import page_count
from refimpl.errors import Misuse, PeerViolation
from refimpl.layout import Layout
from refimpl.platform import PAGE_SIZE

#: Larger powers of two of refs do not fit the page.
MAX_RING_ORDER = 9  # IDXPAGE-19
_REF = ("ref", f"{page_count(MAX_RING_ORDER)}I")

#: The page as published (erratum E-OFFSET: the drawings of it are stale, the C structure counts).
DATA_INTF = Layout(  # IDXPAGE-1 (E-OFFSET, E-INTTYPE)
    "pvcalls_data_intf",
    ("in_cons", "I"),
    ("in_prod", "I"),
    ("in_error", "i"),
    ("pad1", "52x"),
    ("out_cons", "I"),
    ("out_prod", "I"),
    ("out_error", "i"),
    ("pad2", "52x"),
    ("ring_order", "I"),
    _REF,
    total_size=PAGE_SIZE,
)
_DRAFT_A_INTF = Layout(
    "draft A of pvcalls_data_intf",
    ("in_cons", "I"),
    ("in_prod", "I"),
    ("out_cons", "I"),
    ("out_prod", "I"),
    ("in_error", "i"),
    ("out_error", "i"),
    ("ring_order", "I"),
    _REF,
    total_size=PAGE_SIZE,
)
_DRAFT_B_INTF = Layout(
    "draft B of pvcalls_data_intf",
    ("in_cons", "I"),
    ("in_prod", "I"),
    ("in_error", "i"),
    ("pad1", "52x"),
    ("out_cons", "I"),
    ("out_prod", "I"),
    ("out_error", "i"),
    ("ring_order", "I"),
    _REF,
    total_size=PAGE_SIZE,
)


class PageLayout(NamedTuple):
    """Where the members of an indexes page stand, as numbers of 32-bit words from its start."""

    name: str
    in_cons: int
    in_prod: int
    in_error: int
    out_cons: int
    out_prod: int
    out_error: int
    ring_order: int
    ref: int

    @classmethod
    def of(cls, layout: Layout) -> Self:
        """Take the offsets from a declared layout."""
        return cls(layout.name, *(layout.offset_of(member) // 4 for member in cls._fields[1:]))


PUBLISHED = PageLayout.of(DATA_INTF)
#: Drafts 2 to 4, perhaps 5: no padding, the errors after all indexes.
DRAFT_A = PageLayout.of(_DRAFT_A_INTF)
#: Draft 6, perhaps 5: no second padding. The published document's drawings still show it.
DRAFT_B = PageLayout.of(_DRAFT_B_INTF)


def recognise_draft_layout(page_copy: bytes) -> PageLayout:
    """Say which layout a frontend used, from a private copy of its page as it was at connect or accept.

    Only for a backend told to serve drafts: what the published layout calls padding counts here. A ring_order of 0
    cannot be told from none.
    """
    words = memoryview(page_copy).cast("I")
    if words[DRAFT_A.ring_order]:
        return DRAFT_A
    return DRAFT_B if words[DRAFT_B.ring_order] else PUBLISHED


class IndexesPage:
    """An indexes page, granted (frontend) or mapped (backend): 4096 bytes, page aligned.

    ``words`` are all its 32-bit words; ``layout`` numbers those that mean something. ``peer`` is the other end's domid,
    for error messages.
    """

    __slots__ = ("_page", "_peer", "_signed", "layout", "words")

    def __init__(self, page: memoryview, layout: PageLayout = PUBLISHED, peer: int | None = None) -> None:
        if len(page) != PAGE_SIZE:
            raise Misuse(f"the indexes page is {PAGE_SIZE} bytes, not {len(page)}")
        self.layout = layout
        self.words = page.cast("I")
        self._signed = page.cast("i")  # IDXPAGE-2 (E-INTTYPE)
        self._page = page[:]
        self._peer = peer

    @property
    def in_error(self) -> int:
        """Why no more can be read from the socket: 0, or a negative error number; the raw value as it stands.

        Written by the backend only. Not zero means an error, of either sign (erratum E-SIGN).
        """
        return self._signed[self.layout.in_error]

    @in_error.setter
    def in_error(self, error: int) -> None:
        self._signed[self.layout.in_error] = error  # IDXPAGE-14

    @property
    def out_error(self) -> int:
        """Why no more can be written to the socket; otherwise as :attr:`in_error`."""
        return self._signed[self.layout.out_error]

    @out_error.setter
    def out_error(self, error: int) -> None:
        self._signed[self.layout.out_error] = error  # IDXPAGE-14

    def describe_ring(self, ring_order: int, refs: Sequence[int]) -> None:
        """Write ring_order and the grants of the data ring, in order: ``in`` first. The frontend, before it sends ref.

        Raises Misuse for an order outside 1..9, or another number of refs than 2**ring_order.
        """
        if not 1 <= ring_order <= MAX_RING_ORDER:  # IDXPAGE-19
            raise Misuse(f"ring_order is 1 to {MAX_RING_ORDER}, not {ring_order}")
        if len(refs) != page_count(ring_order):  # IDXPAGE-3
            raise Misuse(f"ring_order {ring_order} goes with {page_count(ring_order)} refs, not {len(refs)}")
        start = self.layout.ref
        self.words[start : start + len(refs)] = memoryview(struct.pack(f"={len(refs)}I", *refs)).cast("I")  # IDX-4
        self.words[self.layout.ring_order] = ring_order

    def read_ring_description(
        self, max_order: int, forbidden_refs: Collection[int] = ()
    ) -> tuple[int, tuple[int, ...]]:
        """Return ring_order and the refs, from one private copy, checked. The backend, once for each connection.

        ``max_order`` is what this backend published, ``forbidden_refs`` the grants that cannot also be data: the
        indexes page's own and the commands ring's. Raises PeerViolation with ``field`` ``"ring_order"`` or ``"ref"``.
        """
        start = self.layout.ring_order * 4
        copy = self._page[start : (self.layout.ref + page_count(MAX_RING_ORDER)) * 4].tobytes()  # SEC-B-7
        words = memoryview(copy).cast("I")
        ring_order, highest = words[0], min(max_order, MAX_RING_ORDER)
        if not 1 <= ring_order <= highest:
            requirement = "IDXPAGE-4" if ring_order else "IDXPAGE-5"  # IDXPAGE-4, IDXPAGE-5 (E-ORDER0)
            raise PeerViolation(requirement, "ring_order", ring_order, f"1 to {highest}", self._peer)
        refs = tuple(words[1 : 1 + page_count(ring_order)].tolist())
        distinct = frozenset(refs)
        if len(distinct) != len(refs):
            twice = next(ref for ref in refs if refs.count(ref) > 1)
            raise PeerViolation("SEC-B-7", "ref", twice, "each grant once", self._peer)
        if not distinct.isdisjoint(forbidden_refs):
            used_elsewhere, allowed = min(distinct.intersection(forbidden_refs)), "no page that is in use otherwise"
            raise PeerViolation("SEC-B-7", "ref", used_elsewhere, allowed, self._peer)
        return ring_order, refs

    def release(self) -> None:
        """Let go of every view of the page; a second call does nothing."""
        for view in (self.words, self._signed, self._page):
            view.release()
