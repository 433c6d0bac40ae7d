"""A domain in another process is used as if it were here; when it hangs or is gone, that is said."""

from __future__ import annotations

import os
import threading

import pytest

from refimpl.errors import DomainClosed, GrantRefused, Misuse, PlatformUnavailable, PortRefused, StoreAccessRefused
from refimpl.platform import PAGE_SIZE
from refimpl.shm import ShmPlatform
from refimpl.testing.conformance.spawned import SpawnedProcess
from refimpl.testing.pair import shm_run

PATIENCE = 30.0
JOIN = "refimpl.shm.platform:ShmPlatform.join"


@pytest.fixture(scope="module")
def run():
    with shm_run() as directory:
        yield directory


@pytest.fixture
def spawned(run):
    with SpawnedProcess(JOIN, {"run_directory": run, "arena_pages": 64}) as process:
        yield process


@pytest.fixture
def here(run):
    with ShmPlatform.join(run, arena_pages=64) as platform:
        yield platform


def process_id(platform) -> int:
    return os.getpid()


def fail(platform, text: str) -> None:
    raise KeyError(text)


def fail_strangely(platform) -> None:
    class Local(Exception):
        pass

    raise Local("of no module")


def wait_for_ever(platform) -> None:
    threading.Event().wait()


def size_of(platform, grant) -> int:
    return len(grant.memory) + grant.memory[0]


def test_memory_is_copied_both_ways(spawned, here) -> None:
    grant = spawned.platform.grant(here.domid, 2)
    mapped = here.map(spawned.platform.domid, grant.refs)
    grant.memory[PAGE_SIZE - 2 : PAGE_SIZE + 2] = b"four"
    assert bytes(mapped.memory[PAGE_SIZE - 2 : PAGE_SIZE + 2]) == b"four"
    mapped.memory[0:2] = b"ab"
    assert grant.memory[:3] == b"ab\0"
    assert grant.memory[-4:] == bytes(4)
    assert len(grant.memory) == len(grant.memory[:]) == 2 * PAGE_SIZE
    with pytest.raises(ValueError, match="as many bytes"):
        grant.memory[0:2] = b"abc"
    with pytest.raises(Misuse):
        grant.memory[0:8:2]
    mapped.unmap()
    grant.end()


def test_refusals_cross_with_their_fields(spawned, here) -> None:
    with pytest.raises(GrantRefused) as refused:
        spawned.platform.map(here.domid, [5, 6])
    assert (refused.value.granter, refused.value.refs) == (here.domid, (5, 6))
    with pytest.raises(PortRefused) as no_port:
        spawned.platform.notify(7)
    assert no_port.value.port == 7
    with pytest.raises(StoreAccessRefused):  # nobody made this domain a directory
        spawned.platform.store.read("missing")


def test_functions_run_in_the_process_and_take_what_stays_there(spawned, here) -> None:
    assert spawned.start(process_id)(PATIENCE) == spawned.pid != os.getpid()
    grant = spawned.platform.grant(here.domid, 1)
    grant.memory[0:1] = b"\x05"
    assert spawned.start(size_of, grant)(PATIENCE) == PAGE_SIZE + 5
    with pytest.raises(KeyError, match="a word"):
        spawned.start(fail, "a word")(PATIENCE)
    with pytest.raises(RuntimeError, match="Local: of no module"):
        spawned.start(fail_strangely)(PATIENCE)


def test_one_call_may_wait_while_others_go_on(spawned, here) -> None:
    port = here.allocate_unbound(spawned.platform.domid)
    other = spawned.platform.bind(here.domid, port)
    for each in spawned.platform.wait(0):
        spawned.platform.rearm(each)
    fired = []

    def wait() -> None:
        while other not in fired:
            fired.extend(spawned.platform.wait())

    waiting = threading.Thread(target=wait)
    waiting.start()
    spawned.platform.rearm(other)
    here.notify(port)
    waiting.join(PATIENCE)
    assert fired == [other]


def test_call_that_hangs_is_an_assertion_error(spawned) -> None:
    with pytest.raises(AssertionError, match="hangs"):
        spawned.start(wait_for_ever)(0.05)
    spawned.kill()


def test_domain_that_is_gone_says_so(spawned) -> None:
    pending = spawned.start(wait_for_ever)
    spawned.kill()
    with pytest.raises(DomainClosed):
        pending(PATIENCE)
    with pytest.raises(DomainClosed):
        spawned.platform.notify(1)
    spawned.close()
    spawned.close()


def test_domain_that_cannot_join_says_why(run) -> None:
    with pytest.raises(PlatformUnavailable):
        SpawnedProcess(JOIN, {"run_directory": f"{run}-missing"})
    with pytest.raises(ModuleNotFoundError):
        SpawnedProcess("refimpl.no_such_module:join", {})
