"""What a connection is given, and what is given back."""

from __future__ import annotations

import pytest

from refimpl.data_ring.indexes_page import DRAFT_B
from refimpl.errors import GrantRefused, LimitReached, PortRefused
from refimpl.frontend.data_ring_pages import DataRingPages
from refimpl.shm import ShmPlatform


@pytest.mark.spec("IDX-3", "IDX-4", "IDXPAGE-3", "IDXPAGE-6")
@pytest.mark.security("SEC-F-8")
@pytest.mark.parametrize("order", [1, 4, 9])
def test_the_page_lists_the_grants_of_a_zeroed_ring(machine, order):
    pages = DataRingPages(machine.guest, 0, order)
    guest, zero = machine.guest.domid, machine.zero
    page = zero.map(guest, [pages.ref])
    words = page.memory.cast("I")
    assert words[32] == order
    refs = list(words[33 : 33 + (1 << order)])
    ring = zero.map(guest, refs)
    assert not any(ring.memory)
    assert not any(words[:32])
    ring.memory[-1] = 5
    assert pages.memory[-1] == 5
    port = zero.bind(guest, pages.port)
    zero.close_port(port)
    words.release()
    ring.unmap()
    page.unmap()
    pages.end()
    pages.end()
    for ref in (pages.ref, refs[0], refs[-1]):
        with pytest.raises(GrantRefused):
            zero.map(guest, [ref])
    with pytest.raises(PortRefused):
        zero.bind(guest, pages.port)


def test_a_draft_layout_is_a_matter_of_where(machine):
    pages = DataRingPages(machine.guest, 0, 2, DRAFT_B)
    page = machine.zero.map(machine.guest.domid, [pages.ref])
    with page.memory.cast("I") as words:
        assert (words[19], words[32 + 20]) == (2, 0)
        assert len(set(words[20:24])) == 4
    pages.end()


@pytest.fixture
def small(machine):
    """A guest with room for a few pages."""
    with ShmPlatform.join(machine.run, arena_pages=64) as platform:
        yield platform


def test_the_ring_is_as_large_as_there_is_room(small):
    assert DataRingPages(small, 0, 9).ring_order < 9


def test_no_room_at_all_keeps_nothing(small):
    held = []
    with pytest.raises(LimitReached):
        while True:
            held.append(small.grant(0, 1))
    held.pop().end()
    held.pop().end()
    for _ in range(3):
        with pytest.raises(LimitReached):
            DataRingPages(small, 0, 9)  # There is room for the indexes page, not for a ring.
    held.append(small.grant(0, 2))
    for each in held:
        each.end()


def test_no_port_keeps_no_page(machine, monkeypatch):
    def none_left(peer):
        raise LimitReached("event channels", 0)

    monkeypatch.setattr(machine.guest, "allocate_unbound", none_left)
    granted = []
    grant = machine.guest.grant
    monkeypatch.setattr(
        machine.guest, "grant", lambda *args, **more: granted.append(grant(*args, **more)) or granted[-1]
    )
    with pytest.raises(LimitReached):
        DataRingPages(machine.guest, 0, 2)
    assert [len(each.refs) for each in granted] == [1, 4]
    for each in granted:
        with pytest.raises(GrantRefused):
            machine.zero.map(machine.guest.domid, each.refs)


@pytest.mark.security("SEC-F-9")
def test_pages_that_the_backend_keeps_mapped_are_used_for_nothing_else(machine):
    guest, zero = machine.guest, machine.zero
    at_first = guest._domain.arena.free_page_count
    pages = DataRingPages(guest, 0, 2)
    page = zero.map(guest.domid, [pages.ref])
    refs = list(memoryview(bytes(page.memory)).cast("I")[33:37])
    ring = zero.map(guest.domid, refs)
    pages.end()
    kept = 1 + len(refs)
    assert guest._domain.arena.free_page_count == at_first - kept
    all_others = guest.grant(0, at_first - kept)
    all_others.memory[:] = b"\xaa" * len(all_others.memory)
    assert b"\xaa" not in bytes(ring.memory) + bytes(page.memory)
    with pytest.raises(LimitReached):
        guest.grant(0, 1)
    for each in (ring, page):
        each.unmap()
    guest.grant(0, kept).end()  # They are found to be free now.
    all_others.end()
    assert guest._domain.arena.free_page_count == at_first
