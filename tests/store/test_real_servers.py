"""The client against servers that were not written for it: Debian's own xenstored, and the project's."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from refimpl.errors import StoreConflict, StoreError, StoreLost, StoreNoEntry, StoreQuotaReached
from refimpl.platform import StoreView
from refimpl.store.client import StoreClient

PATIENCE = 60.0


@pytest.fixture
def connect(stack: ExitStack, store_server) -> Iterator[Callable[[], StoreClient]]:
    def connect() -> StoreClient:
        return stack.enter_context(closing(StoreClient.connect(store_server.path, timeout=PATIENCE)))

    return connect


def test_values_and_directories(connect) -> None:
    store = connect()
    for value in (b"", b"v", b"two\nlines", b"\0", b"v\0\0", bytes(range(256)), b"v" * 1900):
        store.write("/t/value", value)
        assert store.read("/t/value") == value
    store.make_directory("/t/directory/below")
    assert store.read("/t/directory") == b""
    assert sorted(store.list("/t")) == ["directory", "value"]
    assert store.list("/t/value") == []
    store.remove("/t/directory")
    store.remove("/t/directory")
    with pytest.raises(StoreNoEntry):
        store.remove("/t/directory/below")
    with pytest.raises(StoreNoEntry):
        store.read("/t/directory")
    assert store.read_or_none("/t/directory") is None
    with pytest.raises(StoreError) as caught:
        store.read("/t/a:b")
    assert caught.value.error_name == "EINVAL"
    with pytest.raises(StoreQuotaReached):
        store.write("/t/value", b"v" * 4096)


def test_permissions(connect) -> None:
    store = connect()
    store.write("/t", b"")
    store.set_permissions("/t", ["n1", "r0", "b7"])
    assert store.get_permissions("/t") == ["n1", "r0", "b7"]
    store.make_directory("/t/child")
    assert store.get_permissions("/t/child") == ["n1", "r0", "b7"]


@pytest.mark.parametrize("count", [0, 1, 200, 1000])
def test_directories_of_any_length(connect, count: int) -> None:
    store = connect()
    names = [f"a-name-of-many-letters-{number:04}" for number in range(count)]
    store.make_directory("/t")

    def fill(view: StoreView) -> None:
        for name in names:
            view.write(f"/t/{name}", b"")

    store.transact(fill)
    assert sorted(store.list("/t")) == names
    assert sorted(store.transact(lambda view: view.list("/t"))) == names


def test_a_long_directory_that_changes_while_it_is_listed(connect) -> None:
    store, other = connect(), connect()
    lasting = {f"a-name-of-many-letters-{number:04}" for number in range(300)}
    for name in lasting:
        store.write(f"/t/{name}", b"")
    stop = threading.Event()

    def change() -> int:
        turns = 0
        while not stop.is_set():
            other.write(f"/t/passing-{turns % 7}", b"")
            other.remove(f"/t/passing-{turns % 7}")
            turns += 1
            stop.wait(0.002)  # Listing takes several requests: leave it a chance to see one generation.
        return turns

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            for _ in range(10):
                listed = store.list("/t")
                assert len(set(listed)) == len(listed)
                assert {name for name in listed if not name.startswith("passing")} == lasting
        finally:
            stop.set()
        assert changing.result(PATIENCE)


def test_watches_are_told_of_everything_below(connect) -> None:
    store, other = connect(), connect()
    changes: Counter[str] = Counter()
    changed = threading.Condition()

    def callback(path: str) -> None:
        with changed:
            changes[path] += 1
            changed.notify_all()

    def await_change(path: str, times: int = 1) -> None:
        with changed:
            assert changed.wait_for(lambda: changes[path] >= times, PATIENCE)

    watch = store.watch("/t/w", callback)
    await_change("/t/w")  # Once at once.
    other.write("/t/w/deep/below", b"1")
    await_change("/t/w/deep/below")
    other.transact(lambda view: view.write("/t/w/x", b"1"))
    await_change("/t/w/x")
    other.set_permissions("/t/w/x", ["n0", "r3"])
    await_change("/t/w/x", 2)
    other.remove("/t/w")
    await_change("/t/w", 2)
    relative = store.watch("relative", callback)
    await_change("relative")
    other.write("/local/domain/0/relative/x", b"")
    await_change("relative/x")
    watch.cancel()
    relative.cancel()


def test_domains_come_and_go(connect, store_server) -> None:
    store = connect()
    events: list[str] = []
    woken = threading.Condition()

    def callback(path: str) -> None:
        with woken:
            events.append(path)
            woken.notify_all()

    def await_events(path: str, count: int) -> None:
        with woken:
            assert woken.wait_for(lambda: events.count(path) >= count, PATIENCE)

    store.watch("@introduceDomain", callback)
    store.watch("@releaseDomain", callback)
    await_events("@releaseDomain", 1)
    assert store.is_introduced(0)
    assert not store.is_introduced(5)
    store_server.introduce(5)
    await_events("@introduceDomain", 2)
    assert store.is_introduced(5)
    store_server.kill_domain(5)
    await_events("@releaseDomain", 2)
    assert not store.is_introduced(5)


@pytest.mark.security("SEC-B-18")
def test_a_storm_of_changes_ends_in_the_last_state(connect) -> None:
    store, other = connect(), connect()
    changed = threading.Event()
    told = 0

    def callback(path: str) -> None:
        nonlocal told
        told += 1
        changed.set()

    store.watch("/t/state", callback)
    with ThreadPoolExecutor(1) as pool:
        storm = pool.submit(lambda: [other.write("/t/state", b"%d" % turn) for turn in range(10_000)])
        seen = b""
        while seen != b"9999":
            assert changed.wait(PATIENCE), "a change was never told"
            changed.clear()
            seen = store.read_or_none("/t/state") or b""
        storm.result(PATIENCE)
    assert told <= 10_002
    assert not store._router.watches._waiting


@pytest.mark.parametrize("connections", [1, 8])
def test_transactions_of_eight_threads_lose_no_update(connect, connections: int) -> None:
    stores = [connect() for _ in range(connections)]
    stores[0].write("/t/counter", b"0")
    turns = 15

    def raise_counter(view: StoreView) -> None:
        view.write("/t/counter", b"%d" % (int(view.read("/t/counter")) + 1))

    def work(number: int) -> None:
        for _ in range(turns):
            while True:
                try:
                    stores[number % connections].transact(raise_counter)
                    break
                except StoreConflict:
                    continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert stores[0].read("/t/counter") == b"%d" % (8 * turns)


def test_eight_threads_of_mixed_calls_lose_no_answer(connect) -> None:
    """Each thread works below a node of its own and must always see what it wrote itself."""
    store = connect()
    seed = random.randrange(2**32)

    def work(own: int) -> int:
        choose = random.Random(seed + own)
        expected: dict[str, bytes] = {}
        store.make_directory(f"/t/{own}")
        for turn in range(150):
            name = f"n{choose.randrange(12)}"
            path = f"/t/{own}/{name}"
            match choose.randrange(6):
                case 0 | 1:
                    expected[name] = choose.randbytes(choose.randrange(300))
                    store.write(path, expected[name])
                case 2:
                    assert store.read_or_none(path) == expected.get(name), (seed, own, turn)
                case 3:
                    store.remove(path)
                    expected.pop(name, None)
                case 4:
                    assert sorted(store.list(f"/t/{own}")) == sorted(expected), (seed, own, turn)
                case 5:
                    fired = threading.Event()
                    watch = store.watch(path, lambda changed, fired=fired: fired.set())
                    assert fired.wait(PATIENCE)
                    watch.cancel()
        return 150

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [150] * 8


def test_the_server_is_killed_while_requests_wait(connect, store_server) -> None:
    store = connect()
    lost = threading.Event()
    store.on_lost(lost.set)
    running = threading.Barrier(9)

    def work(own: int) -> None:
        running.wait(PATIENCE)
        while True:
            store.write(f"/t/{own}", b"v")

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work, own) for own in range(8)]
        running.wait(PATIENCE)
        store_server.close()
        for worker in workers:
            assert isinstance(worker.exception(PATIENCE), StoreLost)
    assert lost.wait(PATIENCE)


def test_another_client_s_nonsense_is_not_ours(connect, store_server) -> None:
    store = connect()
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(store_server.path)
        rude.sendall(b"\xff" * 64)
    store.write("/t", b"v")
    assert store.read("/t") == b"v"
