"""A domain's tables as its owner and its peers see them: words for single accesses, arrays for many at once.

Peers map them read-only, and read every word once: an honest owner changes them at any moment, another one writes
anything.
"""

from __future__ import annotations

import mmap
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from refimpl.shm.segments import GRANTER_COUNT, LARGEST_ARENA, PORT_COUNT, table_offset, view_tables

#: The bit of a word in ``granted`` that allows the peer to write.
WRITABLE = 2

_Words = TypeVar("_Words", int, npt.NDArray[Any])


def grant_word(domid: int, generation: _Words, *, writable: bool) -> _Words:
    """Return what ``granted`` says of a page granted to the domain, or of several pages with a generation each."""
    return generation << 17 | (domid << 2 | (WRITABLE if writable else 0) | 1)


def offer_word(domid: int, generation: int) -> int:
    """Return what ``offered`` says of a port that the domain may bind; the generation is 1 to 0xFFFF."""
    return generation << 16 | domid


def bound_word(incarnation: int, offer: int, port: int) -> int:
    """Return what ``bound`` says of a port bound to the port that incarnation offered so."""
    return incarnation << 32 | (offer >> 16) << 16 | port


class Tables:
    """Views of one domain's tables, over a mapping that is writable for their owner alone."""

    def __init__(self, mapping: mmap.mmap) -> None:
        record = view_tables(mapping)
        view = memoryview(mapping)

        def part(field: str, size_bytes: int) -> memoryview:
            return view[table_offset(field) : table_offset(field) + size_bytes]

        #: By page, as bytes: four of them a word. A slice of it is one copy, or one store, of any length.
        self.granted = part("granted", LARGEST_ARENA * 4)
        self.granted_words: npt.NDArray[np.uint32] = record["granted"]
        #: By port.
        self.offered = part("offered", PORT_COUNT * 4).cast("I")
        self.bound = part("bound", PORT_COUNT * 8).cast("Q")
        self.bound_words: npt.NDArray[np.uint64] = record["bound"]
        #: By row of the maps.
        self.granters = part("granters", GRANTER_COUNT * 4).cast("I")
        self.granter_words: npt.NDArray[np.uint32] = record["granters"]
        self._record: np.ndarray[Any, Any] = record
        self._view = view

    @property
    def port_limit(self) -> int:
        """The port from which on none is in use. The owner's word: at most PORT_COUNT, whatever it is."""
        return min(int(self._record["port_limit"]), PORT_COUNT)

    @port_limit.setter
    def port_limit(self, port: int) -> None:
        self._record["port_limit"] = port

    def maps_row(self, place: int) -> memoryview:
        """Return how many maps hold each page of ``granters[place]``, a byte a page."""
        start = table_offset("maps") + place * LARGEST_ARENA
        return self._view[start : start + LARGEST_ARENA]

    def find_granter(self, incarnation: int) -> int | None:
        """Return the row of a granter, None where none of its pages was ever mapped."""
        places = (self.granter_words == incarnation).nonzero()[0]
        return int(places[0]) if len(places) else None

    def find_bound(self, word: int) -> int | None:
        """Return the port bound to what the word names, None where there is none."""
        ports = (self.bound_words[: self.port_limit] == word).nonzero()[0]
        return int(ports[0]) if len(ports) else None
