"""The mapper: counts, rows, and hostile granters. What any platform must do is in test_conformance.py."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from refimpl.errors import GrantRefused, LimitReached, Misuse
from refimpl.platform import PAGE_SIZE
from refimpl.shm import ShmPlatform, maps
from refimpl.shm.maps import MOST_PAGES, MOST_RUNS
from refimpl.shm.segments import LARGEST_ARENA, PAGE_BITS


@pytest.fixture
def pair(run):
    return run.join(0), run.join()


def counts(mapper, granter) -> list[int]:
    """Return the mapper's counts that are not 0."""
    row = mapper._mapper._rows[granter._domain.incarnation]
    return [count for count in row._array.tolist() if count]


def test_number_of_pages_that_cannot_be_is_misuse(pair) -> None:
    backend, guest = pair
    refs = guest.grant(0, 1).refs
    for page_count in (0, MOST_PAGES + 1):
        with pytest.raises(Misuse, match="a map has"):
            backend.map(guest.domid, refs * page_count)


def test_refs_that_no_ref_can_be_are_refused(pair) -> None:
    backend, guest = pair
    good = guest.grant(0, 1).refs[0]
    for bad in (-1, 2**32, 2**64):
        for refs in ([bad], [good, bad]):
            with pytest.raises(GrantRefused):
                backend.map(guest.domid, refs)


@pytest.mark.parametrize("page", [0, 7, 512, LARGEST_ARENA - 1])
@pytest.mark.parametrize("generation", [0, 5])
def test_pages_outside_of_what_can_be_granted_are_refused(pair, page, generation) -> None:
    backend, guest = pair
    good = guest.grant(0, 1).refs[0]
    ref = generation << PAGE_BITS | page
    for refs in ([ref], [good, ref], [ref, good], [ref, ref + 1], [ref - 1 & 0xFFFFFFFF, ref], [0xFFFFFFFF, 0]):
        with pytest.raises(GrantRefused):
            backend.map(guest.domid, refs)


@pytest.mark.security("SEC-B-6")
def test_one_granters_scattered_pages_do_not_use_up_the_mappings_of_the_process(run) -> None:
    backend, guest, other = run.join(0), run.join(), run.join()
    refs = guest.grant(0, 256).refs[::-1]
    mapped = [backend.map(guest.domid, refs) for _ in range(MOST_RUNS // 256)]
    before = counts(backend, guest)
    with pytest.raises(LimitReached, match="runs of one domain's scattered pages"):
        backend.map(guest.domid, refs)
    assert counts(backend, guest) == before
    backend.map(guest.domid, refs[::-1]).unmap()  # They lie together: that is no mapping more.
    backend.map(other.domid, other.grant(0, 3).refs[::-1]).unmap()
    mapped.pop().unmap()
    mapped.append(backend.map(guest.domid, refs))
    for each in mapped:
        each.unmap()
    assert counts(backend, guest) == []


def test_granter_that_grants_everything_shows_no_more_than_its_arena(run) -> None:
    mapper, liar = run.join(0), run.spawn()
    liar.run("words = platform._domain.tables.granted_words")
    liar.run("words[:] = 3")  # to domain 0, generation 0, to write
    for page in (0, 7, 512, 513, LARGEST_ARENA - 1):
        with pytest.raises(GrantRefused):
            mapper.map(1, [page])
        with pytest.raises(GrantRefused):
            mapper.map(1, [8, page])
    with pytest.raises(GrantRefused):
        mapper.map(1, range(500, 520))
    assert len(mapper.map(1, range(8, 512)).memory) == 504 * PAGE_SIZE
    liar.run("words[:] = 0xFFFFFFFF")
    with pytest.raises(GrantRefused):
        mapper.map(1, [8])


def test_page_can_be_mapped_many_times_and_not_without_end(pair) -> None:
    backend, guest = pair
    grant = guest.grant(0, 3)
    mapped = [backend.map(1, grant.refs) for _ in range(100)]
    mapped.append(backend.map(1, [*grant.refs[:2], *[grant.refs[2]] * 155]))
    assert counts(backend, guest) == [101, 101, 255]
    for refs in (grant.refs, [grant.refs[2]], [grant.refs[0]] * 155, [grant.refs[1], grant.refs[0], grant.refs[2]]):
        with pytest.raises(LimitReached, match="maps of one page"):
            backend.map(1, refs)
    assert counts(backend, guest) == [101, 101, 255]
    for each in mapped:
        each.unmap()
        each.unmap()
    assert counts(backend, guest) == []


def test_refused_maps_count_nothing(pair) -> None:
    backend, guest = pair
    grant, other = guest.grant(0, 3), guest.grant(7, 1)
    held = backend.map(1, grant.refs)
    for refs in ([*grant.refs, *other.refs], [*other.refs, *grant.refs], other.refs):
        with pytest.raises(GrantRefused):
            backend.map(1, refs)
    assert counts(backend, guest) == [1, 1, 1]
    held.unmap()
    assert counts(backend, guest) == []


def test_failure_to_map_counts_nothing(pair, monkeypatch) -> None:
    backend, guest = pair
    grant = guest.grant(0, 3)

    def no_room(*_: object, **__: object) -> None:
        raise LimitReached("address space")

    monkeypatch.setattr(maps, "map_scattered", no_room)
    with pytest.raises(LimitReached):
        backend.map(1, grant.refs[::-1])
    assert counts(backend, guest) == []


def test_no_memory_for_counting_is_a_limit_and_passes(pair, monkeypatch) -> None:
    backend, guest = pair
    grant = guest.grant(0, 1)

    def full(*_: object) -> None:
        raise LimitReached("shared memory")

    with monkeypatch.context() as patch:
        patch.setattr(maps, "reserve", full)
        with pytest.raises(LimitReached):
            backend.map(1, grant.refs)
    backend.map(1, grant.refs).unmap()


def test_rows_of_the_dead_are_used_again(run, monkeypatch) -> None:
    monkeypatch.setattr(maps, "GRANTER_COUNT", 2)
    backend = run.join(0)
    guests = [run.join() for _ in range(3)]
    grants = [guest.grant(0, 2) for guest in guests]
    held = [backend.map(guest.domid, grant.refs) for guest, grant in zip(guests[:2], grants, strict=False)]
    with pytest.raises(LimitReached, match="domains that pages are mapped of"):
        backend.map(guests[2].domid, grants[2].refs)
    guests[0].close()
    with pytest.raises(LimitReached):
        backend.map(guests[2].domid, grants[2].refs)  # a map of the dead one's pages is left
    held[0].unmap()
    grants[2].memory[0:5] = b"third"
    third = backend.map(guests[2].domid, grants[2].refs)
    assert bytes(third.memory[0:5]) == b"third"
    grants[2].end()
    assert guests[2]._granter.quarantined_page_count == 2
    grants[1].end()
    assert guests[1]._granter.quarantined_page_count == 2


def test_views_left_of_scattered_pages_are_misuse_and_they_stay_mapped(pair) -> None:
    backend, guest = pair
    grant = guest.grant(0, 2)
    mapped = backend.map(1, grant.refs[::-1])
    view = mapped.memory[0:4]
    with pytest.raises(Misuse, match="release every view"):
        mapped.unmap()
    assert counts(backend, guest) == [1, 1]
    view[:] = b"late"
    view.release()
    mapped.unmap()
    assert counts(backend, guest) == []
    assert bytes(grant.memory[PAGE_SIZE : PAGE_SIZE + 4]) == b"late"


def test_peers_and_their_descriptors_go_with_the_last_that_needs_them(run) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    backend = run.join(0)
    guest = run.join()
    mapped = backend.map(guest.domid, guest.grant(0, 1).refs)
    guest.close()
    del guest
    before = descriptors()
    for _ in range(10):
        with ShmPlatform.join(run.directory, domid=1, arena_pages=64) as guest:
            backend.map(1, guest.grant(0, 1).refs).unmap()
        del guest
    gc.collect()
    assert descriptors() <= before + 5
    mapped.unmap()


class Maps(RuleBasedStateMachine):
    """Grants, maps in any order, writes and ends, against plain byte strings."""

    pair = None

    def __init__(self) -> None:
        super().__init__()
        self.mapper, self.granter = self.pair
        #: By a number: the grant, and each page's content.
        self.grants: dict[int, tuple] = {}
        #: By a number: the map, and for each of its pages the grant's number and the page's.
        self.maps: dict[int, tuple] = {}
        self.contents: dict[tuple[int, int], bytes] = {}
        self.number = 0

    @precondition(lambda self: len(self.grants) < 8)
    @rule(page_count=st.integers(1, 6), writable=st.booleans())
    def grant(self, page_count: int, writable: bool) -> None:
        grant = self.granter.grant(self.mapper.domid, page_count, writable=writable)
        assert bytes(grant.memory) == bytes(page_count * PAGE_SIZE)
        self.number += 1
        self.grants[self.number] = grant, writable
        for page in range(page_count):
            content = b"%08d%08d" % (self.number, page) * (PAGE_SIZE // 16)
            grant.memory[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] = content
            self.contents[self.number, page] = content

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), writable=st.booleans())
    def map(self, data, writable: bool) -> None:
        all_pages = [(number, page) for number, (grant, _) in self.grants.items() for page in range(len(grant.refs))]
        pages = data.draw(st.lists(st.sampled_from(all_pages), min_size=1, max_size=12) | st.just(all_pages))
        refs = [self.grants[number][0].refs[page] for number, page in pages]
        if writable and not all(self.grants[number][1] for number, _ in pages):
            with pytest.raises(GrantRefused):
                self.mapper.map(self.granter.domid, refs)
            return
        mapped = self.mapper.map(self.granter.domid, refs, writable=writable)
        assert mapped.memory.readonly != writable
        self.number += 1
        self.maps[self.number] = mapped, pages

    @precondition(lambda self: self.grants)
    @rule(data=st.data())
    def end(self, data) -> None:
        number = data.draw(st.sampled_from(sorted(self.grants)))
        grant, _ = self.grants.pop(number)
        refs = grant.refs
        grant.end()
        with pytest.raises(GrantRefused):
            self.mapper.map(self.granter.domid, refs[:1], writable=False)

    @precondition(lambda self: self.maps)
    @rule(data=st.data())
    def look(self, data) -> None:
        mapped, pages = self.maps[data.draw(st.sampled_from(sorted(self.maps)))]
        assert bytes(mapped.memory) == b"".join(self.contents[page] for page in pages)

    @precondition(lambda self: self.maps)
    @rule(data=st.data())
    def unmap(self, data) -> None:
        mapped, pages = self.maps.pop(data.draw(st.sampled_from(sorted(self.maps))))
        assert bytes(mapped.memory) == b"".join(self.contents[page] for page in pages)
        mapped.unmap()

    def teardown(self) -> None:
        for mapped, _ in self.maps.values():
            mapped.unmap()
        for grant, _ in self.grants.values():
            grant.end()
        if self.mapper._mapper._rows:
            assert counts(self.mapper, self.granter) == []
        self.granter.grant(0, 1).end()


def test_any_order_of_grants_maps_and_ends(pair) -> None:
    class Prepared(Maps):
        pass

    Prepared.pair = pair
    Prepared.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
    Prepared.TestCase().runTest()
