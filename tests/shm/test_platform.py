"""Joining, closing, forking."""

from __future__ import annotations

import os
import pickle

import pytest

from refimpl.errors import DomainClosed, ForkedDomain, LimitReached, Misuse, PlatformUnavailable, StoreLost
from refimpl.shm import ShmPlatform, domain
from refimpl.shm import platform as platform_module
from refimpl.shm.names import Anchor
from refimpl.shm.segments import LARGEST_ARENA
from refimpl.store.client import StoreClient


def test_platform_says_what_it_is(run) -> None:
    first = run.join()
    assert (first.name, first.domid, first.default_ring_order) == ("shm", 1, 9)
    assert first.fileno() is None
    assert run.join(5).domid == 5


def test_no_run_is_unavailable(run_directory) -> None:
    with pytest.raises(PlatformUnavailable, match="no run lives in"):
        ShmPlatform.join(run_directory)


@pytest.mark.parametrize("pages", [-1, 0, 8, LARGEST_ARENA + 1])
def test_arena_of_a_size_that_cannot_be_is_misuse(run, pages) -> None:
    with pytest.raises(Misuse, match="an arena has"):
        run.join(arena_pages=pages)


def test_default_arena_is_virtual(run) -> None:
    with ShmPlatform.join(run.directory) as platform:
        status = os.fstat(platform._domain.arena.descriptor)
        assert status.st_size == LARGEST_ARENA * 4096
        assert status.st_blocks * 512 < 1 << 20


def test_failure_at_each_step_of_joining_leaves_nothing(run, names, monkeypatch) -> None:
    def descriptors() -> list[str]:
        return os.listdir("/proc/self/fd")

    run.join()
    before = names(run.id)

    class Failure(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise Failure

    steps = [
        (domain, "map_lives"),
        (Anchor, "share"),
        (domain, "create_segment"),
        (domain, "reserve"),
        (domain, "Arena"),
        (StoreClient, "connect"),
        (platform_module, "Granter"),
    ]
    held = len(descriptors())
    for owner, name in steps:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(Failure):
                run.join(7)
        with ShmPlatform.join(run.directory, domid=7, arena_pages=64):
            pass
    # Frames of the failures may hold a mapping or two until they are collected.
    assert len(descriptors()) <= held + 2
    assert names(run.id) == before


def test_full_memory_is_a_limit(run, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise LimitReached("shared memory", None, "/dev/shm is full")

    monkeypatch.setattr(domain, "reserve", full)
    with pytest.raises(LimitReached, match="is full"):
        run.join()


def test_run_that_ends_while_it_is_joined(run, monkeypatch) -> None:
    monkeypatch.setattr(Anchor, "share", lambda *_: None)
    with pytest.raises(DomainClosed, match="has just ended"):
        run.join()


def test_closed_domain_can_be_closed_again_and_used_no_more(run) -> None:
    backend, guest = run.join(0), run.join()
    grant = guest.grant(0, 2)
    mapped = guest.map(0, backend.grant(1, 1).refs)
    port = guest.allocate_unbound(0)
    guest.close()
    guest.close()
    for call in (
        lambda: guest.grant(0, 1),
        lambda: guest.map(0, [8]),
        lambda: guest.allocate_unbound(0),
        lambda: guest.bind(0, 1),
        lambda: guest.notify(port),
        lambda: guest.wait(0),
    ):
        with pytest.raises(DomainClosed):
            call()
    with pytest.raises(StoreLost):
        guest.store.read("data")
    # What gives back has nothing left to do.
    grant.end()
    mapped.unmap()
    guest.rearm(port)
    guest.close_port(port)
    guest.wake()


def test_memory_outlives_the_domain(run) -> None:
    guest = run.join()
    backend = run.join(0)
    grant, foreign = guest.grant(0, 2), backend.grant(guest.domid, 2)
    views = [grant.memory[:], guest.map(0, foreign.refs).memory[:], guest.map(0, foreign.refs[::-1]).memory[:]]
    guest.close()
    for view in views:
        view[0:4] = b"late"
        assert bytes(view[0:4]) == b"late"


def test_process_may_be_several_domains(run) -> None:
    domains = [run.join() for _ in range(4)]
    assert [each.domid for each in domains] == [1, 2, 3, 4]
    own = domains[0].grant(1, 1)  # to itself
    own.memory[0:4] = b"mine"
    assert bytes(domains[0].map(1, own.refs).memory[0:4]) == b"mine"
    port = domains[0].allocate_unbound(1)
    other = domains[0].bind(1, port)
    assert list(domains[0].wait(0)) == [other]
    domains[0].notify(other)
    assert list(domains[0].wait(0)) == [port]


def test_forked_child_says_so_and_may_join_itself(run) -> None:
    parent = run.join(0)
    child = run.spawn()
    child.run(
        "import os\n"
        "def in_child():\n"
        "    reader, writer = os.pipe()\n"
        "    pid = os.fork()\n"
        "    if pid:\n"
        "        os.close(writer)\n"
        "        data = b''.join(iter(lambda: os.read(reader, 65536), b''))\n"
        "        os.waitpid(pid, 0)\n"
        "        return data\n"
        "    import pickle\n"
        "    try:\n"
        "        platform.notify(1)\n"
        "    except Exception as error:\n"
        "        with ShmPlatform.join(" + repr(str(run.directory)) + ", arena_pages=64) as own:\n"
        "            os.write(writer, pickle.dumps((type(error), own.domid)))\n"
        "    os._exit(0)\n"
    )
    kind, domid = pickle.loads(child.run("in_child()"))
    assert (kind, domid) == (ForkedDomain, 2)
    # The parent's domain lives on.
    port = parent.allocate_unbound(1)
    child.run(f"port = platform.bind(0, {port}); platform.notify(port)")
    assert list(parent.wait(30)) == [port]


def test_forked_childs_orderly_exit_takes_nothing_away(run) -> None:
    parent = run.join(0)
    child = run.spawn()
    grant = parent.grant(1, 1)
    port = parent.allocate_unbound(1)
    child.run(f"mapped = platform.map(0, {grant.refs}); port = platform.bind(0, {port})")
    child.run(
        "import os, gc\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    names = list(globals())\n"
        "    for name in names:\n"
        "        if name not in ('os', 'gc'): globals().pop(name)\n"
        "    gc.collect()\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
    )
    grant.memory[0:4] = b"here"
    assert child.run("bytes(mapped.memory[0:4])") == b"here"
    child.run("platform.notify(port)")
    assert list(parent.wait(30)) == [port]
    assert parent.store.is_introduced(1)
