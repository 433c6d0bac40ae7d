"""The words of the tables."""

from __future__ import annotations

import mmap
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.shm.segments import DOMID_COUNT, GENERATION_COUNT, GRANTER_COUNT, PORT_COUNT, TABLES, map_segment
from refimpl.shm.tables import WRITABLE, Tables, bound_word, grant_word, offer_word

domids = st.integers(0, DOMID_COUNT - 1)
generations = st.integers(0, GENERATION_COUNT - 1)


@pytest.fixture
def both():
    """One domain's tables, as their owner has them and as a peer has."""
    descriptor = os.memfd_create("tables")
    os.ftruncate(descriptor, TABLES.itemsize)
    yield (
        Tables(map_segment(descriptor, TABLES.itemsize, writable=True)),
        Tables(map_segment(descriptor, TABLES.itemsize, writable=False)),
    )
    os.close(descriptor)


@given(one=st.tuples(domids, generations, st.booleans()), other=st.tuples(domids, generations, st.booleans()))
def test_different_grants_have_different_words(one, other) -> None:
    words = [grant_word(domid, generation, writable=writable) for domid, generation, writable in (one, other)]
    assert all(0 < word < 1 << 32 for word in words)
    assert (words[0] == words[1]) == (one == other)


@given(domid=domids, chosen=st.lists(generations, min_size=1))
def test_words_of_many_are_those_of_each(domid, chosen) -> None:
    words = grant_word(domid, np.array(chosen, np.uint32), writable=True)
    assert words.tolist() == [grant_word(domid, generation, writable=True) for generation in chosen]
    assert (words & WRITABLE).all()


@given(
    domid=domids,
    generation=st.integers(1, 0xFFFF),
    incarnation=st.integers(1, 2**32 - 1),
    port=st.integers(1, PORT_COUNT - 1),
)
def test_offer_names_who_may_bind_and_a_bound_word_names_the_offer(domid, generation, incarnation, port) -> None:
    offer = offer_word(domid, generation)
    assert 0 < offer < 1 << 32
    assert offer & 0xFFFF == domid
    word = bound_word(incarnation, offer, port)
    assert (word >> 32, word >> 16 & 0xFFFF, word & 0xFFFF) == (incarnation, generation, port)


def test_peer_reads_what_the_owner_writes_and_cannot_write(both) -> None:
    own, seen = both
    own.granted[4 * 9 : 4 * 10] = b"\1\2\3\4"
    assert seen.granted_words[9] == int.from_bytes(b"\1\2\3\4", "little")
    own.offered[7], own.bound[8], own.granters[9], own.port_limit = 1, 2**64 - 1, 3, 10
    assert (seen.offered[7], seen.bound[8], seen.granters[9], seen.port_limit) == (1, 2**64 - 1, 3, 10)
    own.maps_row(3)[77] = 5
    assert seen.maps_row(3)[77] == 5
    for view in (seen.granted, seen.offered, seen.bound, seen.granters, seen.maps_row(0)):
        with pytest.raises(TypeError):
            view[0] = 0


def test_bound_port_is_found_below_the_limit_only(both) -> None:
    own, seen = both
    word = bound_word(2**32 - 1, offer_word(3, 0xFFFF), 77)
    assert seen.find_bound(word) is None
    own.bound[12] = word
    own.port_limit = 12
    assert seen.find_bound(word) is None
    own.port_limit = 13
    assert seen.find_bound(word) == 12
    own.port_limit = 2**32 - 1
    assert seen.port_limit == PORT_COUNT


def test_granter_is_found(both) -> None:
    own, seen = both
    assert seen.find_granter(5) is None
    own.granters[GRANTER_COUNT - 1] = 5
    assert seen.find_granter(5) == GRANTER_COUNT - 1


def test_views_keep_the_mapping(both) -> None:
    own, _ = both
    row = own.maps_row(1)
    assert isinstance(row.obj, mmap.mmap)
