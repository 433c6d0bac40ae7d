"""Other domains: asked for once, and what is no domain is none."""

from __future__ import annotations

import os
import weakref

import posix_ipc
import pytest

from refimpl.errors import LimitReached
from refimpl.platform import PAGE_SIZE
from refimpl.shm import peers


@pytest.fixture
def pair(run):
    return run.join(0), run.join()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_peer_is_asked_for_once(pair, monkeypatch) -> None:
    one, other = pair
    asked = []
    call = one._domain.control.call
    monkeypatch.setattr(one._domain.control, "call", lambda *arguments: asked.append(arguments) or call(*arguments))
    assert one._peers.get(other.domid) is one._peers.get(other.domid)
    assert len(asked) == 1


def test_dead_peer_is_none_and_its_successor_another(run, pair) -> None:
    one, other = pair
    former = one._peers.get(1)
    other.close()
    assert not former.alive
    assert one._peers.get(1) is None
    run.join(1)
    assert one._peers.get(1).incarnation != former.incarnation
    for absent in (-1, 77, 2**40):
        assert one._peers.get(absent) is None


def test_of_many_peers_that_died_at_most_one_is_kept(run, pair) -> None:
    one, _ = pair
    kept = []
    for _ in range(6):
        with run.join() as passing:
            kept.append(weakref.ref(one._peers.get(passing.domid)))
            assert kept[-1]().alive
    assert [former() for former in kept[:-1]] == [None] * 5


def test_peer_that_cut_its_segments_short_is_none(run, pair) -> None:
    one, _ = pair
    liar = run.spawn()
    liar.run("import os; os.ftruncate(platform._domain.arena.descriptor, 4096)")
    before = descriptors()
    assert one._peers.get(liar.run("platform.domid")) is None
    assert descriptors() <= before


def test_peer_that_dies_while_it_is_asked_for_is_none(pair, monkeypatch) -> None:
    one, other = pair

    def gone(*_: object) -> None:
        raise posix_ipc.ExistentialError

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(posix_ipc, "Semaphore", gone)
        assert one._peers.get(other.domid) is None
    assert descriptors() <= before
    call = one._domain.control.call
    with monkeypatch.context() as patch:
        patch.setattr(one._domain.control, "call", lambda message: call({"call": "peer", "domid": 77}))
        assert one._peers.get(other.domid) is None
    assert one._peers.get(other.domid) is not None


def test_no_room_for_a_peer_is_a_limit_and_passes(pair, monkeypatch) -> None:
    one, other = pair

    def no_room(*_: object, **__: object) -> None:
        raise LimitReached("address space")

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(peers, "map_segment", no_room)
        with pytest.raises(LimitReached):
            one._peers.get(other.domid)
    assert descriptors() <= before
    grant = other.grant(0, 1)
    assert len(one.map(1, grant.refs).memory) == PAGE_SIZE
