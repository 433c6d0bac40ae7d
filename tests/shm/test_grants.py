"""The granter: pages kept aside, stale refs, hostile mappers. What any platform must do is in test_conformance.py."""

from __future__ import annotations

import pickle

import pytest

from refimpl.errors import GrantRefused, LimitReached, Misuse
from refimpl.platform import PAGE_SIZE
from refimpl.shm.segments import DOMID_COUNT, GENERATION_COUNT, LARGEST_ARENA, PAGE_BITS


@pytest.fixture
def pair(run):
    return run.join(0), run.join()


def kept_aside(platform) -> int:
    return platform._granter.quarantined_page_count


@pytest.mark.parametrize(("peer", "page_count"), [(0, 0), (0, -1), (-1, 1), (DOMID_COUNT, 1)])
def test_what_cannot_be_granted_is_misuse(run, peer, page_count) -> None:
    with pytest.raises(Misuse, match="cannot be granted"):
        run.join().grant(peer, page_count)


def test_refs_of_a_grant_follow_each_other(pair) -> None:
    backend, guest = pair
    refs = guest.grant(backend.domid, 100).refs
    assert refs == tuple(range(refs[0], refs[0] + 100))


def test_ref_kept_after_its_end_does_not_name_the_next_grant(pair) -> None:
    backend, guest = pair
    old = guest.grant(backend.domid, 3)
    stale = old.refs
    old.end()
    new = guest.grant(backend.domid, 3)
    assert [ref % LARGEST_ARENA for ref in new.refs] == [ref % LARGEST_ARENA for ref in stale]
    for refs in (stale, stale[::-1], (new.refs[0], stale[1])):
        for writable in (True, False):
            with pytest.raises(GrantRefused):
                backend.map(guest.domid, refs, writable=writable)
    backend.map(guest.domid, new.refs).unmap()


def test_generations_begin_anew_after_the_last(pair) -> None:
    backend, guest = pair
    guest._granter._generation = GENERATION_COUNT - 2
    last, first = guest.grant(0, 2), guest.grant(0, 2)
    assert [ref >> PAGE_BITS for ref in (*last.refs, *first.refs)] == [GENERATION_COUNT - 1] * 2 + [0] * 2
    for grant in (last, first):
        grant.memory[0:2] = b"ok"
        assert bytes(backend.map(guest.domid, grant.refs).memory[0:2]) == b"ok"


def test_pages_still_mapped_are_kept_aside_until_unmapped(pair) -> None:
    backend, guest = pair
    grant = guest.grant(backend.domid, 4)
    mapped = backend.map(guest.domid, grant.refs[1:2])
    grant.end()
    assert kept_aside(guest) == 4
    guest.grant(backend.domid, 1)
    assert kept_aside(guest) == 4
    mapped.unmap()
    guest.grant(backend.domid, 1)
    assert kept_aside(guest) == 0


def test_pages_mapped_by_the_dead_come_back(run) -> None:
    guest, mapper = run.join(), run.spawn(0)
    grant = guest.grant(0, 4)
    mapper.run(f"mapped = platform.map({guest.domid}, {grant.refs})")
    grant.end()
    assert kept_aside(guest) == 4
    mapper.kill()
    run.join(0)  # by now the death is noticed; the new domain 0 maps nothing
    guest.grant(0, 1)
    assert kept_aside(guest) == 0


def test_pages_kept_aside_are_looked_at_before_a_limit(run) -> None:
    backend, guest = run.join(0), run.join(arena_pages=8 + 40)
    held = []
    for _ in range(20):
        grant = guest.grant(0, 2)
        held.append(backend.map(guest.domid, grant.refs))
        grant.end()
    with pytest.raises(LimitReached, match="pages in the arena"):
        guest.grant(0, 1)
    held[-1].unmap()
    guest.grant(0, 2)
    with pytest.raises(LimitReached):
        guest.grant(0, 1)


def test_memory_in_use_is_misuse_and_nothing_is_ended(pair) -> None:
    backend, guest = pair
    grant = guest.grant(backend.domid, 1)
    export = pickle.PickleBuffer(grant.memory)  # as a recv_into in another thread
    with pytest.raises(Misuse, match="release every view"):
        grant.end()
    backend.map(guest.domid, grant.refs).unmap()
    export.release()
    grant.end()
    with pytest.raises(ValueError, match="released"):
        grant.memory[0]
    with pytest.raises(GrantRefused):
        backend.map(guest.domid, grant.refs)


def test_arena_in_pieces_is_granted_all_the_same(run) -> None:
    backend, guest = run.join(0), run.join(arena_pages=8 + 32)
    grants = [guest.grant(0, 1) for _ in range(32)]
    for grant in grants[::2]:
        grant.end()
    grant = guest.grant(0, 16)
    assert len(set(grant.refs)) == 16
    grant.memory[:] = bytes(range(16)) * PAGE_SIZE
    mapped = backend.map(guest.domid, grant.refs)
    assert bytes(mapped.memory) == bytes(range(16)) * PAGE_SIZE
    mapped.unmap()
    grant.end()
    guest.grant(0, 1)


def test_grant_that_cannot_be_viewed_takes_no_pages(pair, monkeypatch) -> None:
    _, guest = pair
    free = guest._domain.arena.free_page_count

    def no_room(_: object) -> None:
        raise LimitReached("address space")

    with monkeypatch.context() as patch:
        patch.setattr(guest._domain.arena, "view", no_room)
        with pytest.raises(LimitReached):
            guest.grant(0, 4)
    assert guest._domain.arena.free_page_count == free


def test_without_a_hypervisor_known_peers_are_enough(run) -> None:
    backend, guest = run.join(0), run.join()
    known = guest.grant(0, 2)
    backend.map(guest.domid, known.refs).unmap()
    known.end()
    stranger = run.join()
    unknown = guest.grant(stranger.domid, 2)
    run.stop()
    mapped = guest.grant(0, 2)
    backend.map(guest.domid, mapped.refs)
    mapped.end()
    assert kept_aside(guest) == 2
    # Whether one that it never met maps its pages, nobody can tell it any more.
    unknown.end()
    assert kept_aside(guest) == 4


def test_mapper_that_lies_about_its_maps_only_keeps_pages_aside(run) -> None:
    guest, liar = run.join(), run.spawn(0)
    grants = [guest.grant(0, 2) for _ in range(3)]
    liar.run(f"mapped = platform.map({guest.domid}, {grants[0].refs})")
    liar.run("import numpy; record = platform._domain.tables._record")
    for lie in (
        "record['maps'][:4] = 255",
        f"record['granters'][:] = {guest._domain.incarnation}",
        "record['granters'][:] = 2**32 - 1",
        "record['port_limit'] = 2**32 - 1; record['bound'][:] = 2**64 - 1; record['offered'][:] = 2**32 - 1",
    ):
        liar.run(lie)
        grants.append(guest.grant(0, 2))
        grants.pop(0).end()
    liar.kill()
    run.join(0)
    for _ in range(3):
        guest.grant(0, 1)
    assert kept_aside(guest) == 0
