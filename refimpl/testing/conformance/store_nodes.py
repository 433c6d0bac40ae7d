"""Checks of xenstore as a platform gives it: values, directories, transactions.

Spec: Xenstore.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from refimpl.errors import RefimplError, StoreConflict, StoreNoEntry
from refimpl.platform import Platform, StoreView
from refimpl.testing.conformance.checks import Work, check, demand_equal, refused
from refimpl.testing.conformance.factory import Peers

_numbers = itertools.count()


@contextmanager
def workplace(peers: Peers, platform: Platform) -> Iterator[str]:
    """Give an empty directory of the domain's own, below ``/local/domain/<domid>/data``; remove it afterwards.

    A guest may not make one by itself everywhere: domain 0 makes it, where it is among the peers.
    """
    path = f"/local/domain/{platform.domid}/data/conformance-{next(_numbers)}"
    maker = peers.platforms[0].store if peers.factory.first_is_privileged else platform.store
    maker.make_directory(path)
    maker.set_permissions(path, [f"n{platform.domid}"])
    try:
        yield path
    finally:
        maker.remove(path)


@check("store")
def value_comes_back_as_written(peers: Peers) -> None:
    """A value is bytes and comes back as written: empty, zeros, any byte, as long as a node may be."""
    for platform in peers:
        with workplace(peers, platform) as path:
            for value in (b"4", b"", b"two\nlines", b"\0", b"ends in zero\0", bytes(range(256)), b"v" * 2000):
                platform.store.write(f"{path}/value", value)
                demand_equal(platform.store.read(f"{path}/value"), value, "the value")


@check("store")
def missing_node_is_no_entry(peers: Peers) -> None:
    """Reading, listing and asking permissions of what is not there is StoreNoEntry; read_or_none gives None."""
    store = peers.platforms[0].store
    with workplace(peers, peers.platforms[0]) as path:
        for name in ("read", "list", "get_permissions"):
            with refused(StoreNoEntry, f"{name} of a missing node"):
                getattr(store, name)(f"{path}/missing")
        with refused(StoreNoEntry, "setting permissions of a missing node"):
            store.set_permissions(f"{path}/missing", ["n0"])
        demand_equal(store.read_or_none(f"{path}/missing"), None, "read_or_none of a missing node")
        store.write(f"{path}/there", b"")
        demand_equal(store.read_or_none(f"{path}/there"), b"", "read_or_none of an empty node")


@check("store")
def parents_are_created_and_listed(peers: Peers) -> None:
    """Writing and making a directory create missing parents, empty, and each lists the names of its children."""
    for platform in peers:
        store = platform.store
        with workplace(peers, platform) as path:
            store.write(f"{path}/a/b/c", b"deep")
            store.make_directory(f"{path}/a/d/e")
            demand_equal(sorted(store.list(f"{path}/a")), ["b", "d"], "children")
            demand_equal(store.list(f"{path}/a/b/c"), [], "children of a leaf")
            for made in ("a", "a/b", "a/d", "a/d/e"):
                demand_equal(store.read(f"{path}/{made}"), b"", f"value of {made}")


@check("store")
def making_an_existing_directory_changes_nothing(peers: Peers) -> None:
    """Making a directory that is there leaves its value and its children."""
    store = peers.platforms[0].store
    with workplace(peers, peers.platforms[0]) as path:
        store.write(f"{path}/node", b"kept")
        store.write(f"{path}/node/child", b"too")
        store.make_directory(f"{path}/node")
        demand_equal(store.read(f"{path}/node"), b"kept", "the value")
        demand_equal(store.list(f"{path}/node"), ["child"], "the children")


@check("store")
def big_directory_is_listed_whole(peers: Peers) -> None:
    """A directory is listed whole also when its names are longer than one message of xenstore."""
    store = peers.platforms[0].store
    names = [f"a-rather-long-name-{number:04}" for number in range(300)]
    with workplace(peers, peers.platforms[0]) as path:
        for name in names:
            store.write(f"{path}/{name}", b"")
        demand_equal(sorted(store.list(path)), names, "the names")


@check("store")
def removing_takes_everything_below(peers: Peers) -> None:
    """Removing takes the node and all below it; a missing one is no error, a missing parent is StoreNoEntry."""
    for platform in peers:
        store = platform.store
        with workplace(peers, platform) as path:
            store.write(f"{path}/a/b/c", b"1")
            store.write(f"{path}/ab", b"2")
            store.remove(f"{path}/a")
            demand_equal(store.list(path), ["ab"], "what is left")
            demand_equal(store.read_or_none(f"{path}/a/b/c"), None, "a node below the removed one")
            store.remove(f"{path}/a")
            with refused(StoreNoEntry, "removing below a missing parent"):
                store.remove(f"{path}/a/b")


@check("store")
def relative_path_is_below_our_own(peers: Peers) -> None:
    """A relative path is below the caller's own /local/domain/<domid>."""
    for platform in peers:
        store = platform.store
        with workplace(peers, platform) as path:
            relative = path.removeprefix(f"/local/domain/{platform.domid}/")
            store.write(f"{relative}/x", b"relative")
            demand_equal(store.read(f"{path}/x"), b"relative", "the same node by its absolute path")
            store.write(f"{path}/x", b"absolute")
            demand_equal(store.read(f"{relative}/x"), b"absolute", "the same node by its relative path")
            demand_equal(store.list(relative), ["x"], "the directory by its relative path")


@check("store")
def every_domain_sees_the_same_store(peers: Peers) -> None:
    """What one domain writes another reads at once, permissions allowing."""
    alpha, beta = peers
    for one, other in ((alpha, beta), (beta, alpha)):
        with workplace(peers, one) as path:
            one.store.write(f"{path}/x", b"")
            one.store.set_permissions(f"{path}/x", [f"n{one.domid}", f"r{other.domid}"])
            for turn in range(50):
                one.store.write(f"{path}/x", b"%d" % turn)
                demand_equal(other.store.read(f"{path}/x"), b"%d" % turn, "what the other domain reads")


@check("store")
def answers_reach_the_thread_that_asked(peers: Peers) -> None:
    """A store serves many threads at once, each with its own answers."""
    platform = peers.platforms[0]
    with workplace(peers, platform) as path:

        def work(own: str) -> None:
            for turn in range(100):
                value = f"{own} {turn}".encode()
                platform.store.write(f"{path}/{own}", value)
                demand_equal(platform.store.read(f"{path}/{own}"), value, f"value of thread {own}")

        for worker in [Work(work, f"thread-{number}") for number in range(4)]:
            worker.result(peers.patience * 2, "100 writes and reads")


@check("store")
def transaction_is_seen_whole_or_not_at_all(peers: Peers) -> None:
    """Changes of a transaction are seen inside it at once, outside it only when it ends; its result comes back."""
    platform = peers.platforms[0]
    store = platform.store
    with workplace(peers, platform) as path:

        def action(view: StoreView) -> str:
            view.write(f"{path}/one", b"1")
            view.make_directory(f"{path}/two")
            demand_equal(view.read(f"{path}/one"), b"1", "inside")
            demand_equal(sorted(view.list(path)), ["one", "two"], "children inside")
            demand_equal(store.read_or_none(f"{path}/one"), None, "outside")
            return "result"

        demand_equal(store.transact(action), "result", "what the action returned")
        demand_equal(store.read(f"{path}/one"), b"1", "after the end")
        demand_equal(sorted(store.list(path)), ["one", "two"], "children after the end")


@check("store")
def exception_aborts_the_transaction(peers: Peers) -> None:
    """An exception out of the action comes out of transact, and nothing of the transaction is left."""
    platform = peers.platforms[0]
    store = platform.store
    with workplace(peers, platform) as path:
        store.write(f"{path}/kept", b"before")

        class Stop(Exception):
            pass

        def action(view: StoreView) -> None:
            view.write(f"{path}/kept", b"inside")
            view.write(f"{path}/new", b"inside")
            raise Stop

        for _ in range(30):  # more than a domain may have open
            with refused(Stop, "a transaction whose action raises"):
                store.transact(action)
        demand_equal(store.read(f"{path}/kept"), b"before", "the value")
        demand_equal(store.list(path), ["kept"], "the children")


@check("store")
def conflicting_transaction_is_done_again(peers: Peers) -> None:
    """A transaction that stands on what somebody changed meanwhile is done again as a whole."""
    platform = peers.platforms[0]
    store = platform.store
    with workplace(peers, platform) as path:
        store.write(f"{path}/counter", b"0")
        runs: list[int] = []

        def action(view: StoreView) -> None:
            value = int(view.read(f"{path}/counter"))
            if not runs:
                store.write(f"{path}/counter", b"10")
            runs.append(value)
            view.write(f"{path}/counter", b"%d" % (value + 1))

        store.transact(action)
        demand_equal(runs, [0, 10], "what each run read")
        demand_equal(store.read(f"{path}/counter"), b"11", "the counter")


@check("store")
def conflict_without_end_is_reported(peers: Peers) -> None:
    """A transaction that conflicts each time is given up, with StoreConflict and nothing of it left."""
    platform = peers.platforms[0]
    store = platform.store
    with workplace(peers, platform) as path:
        store.write(f"{path}/counter", b"0")
        runs = itertools.count(1)

        def action(view: StoreView) -> None:
            view.read(f"{path}/counter")
            store.write(f"{path}/counter", b"%d" % next(runs))
            view.write(f"{path}/result", b"never")

        transacting = Work(store.transact, action)
        with refused(StoreConflict, "a transaction that always conflicts"):
            transacting.result(peers.patience * 2, "a transaction that always conflicts")
        demand_equal(store.read_or_none(f"{path}/result"), None, "what the transaction wrote")


@check("store")
def transactions_of_many_threads_lose_no_update(peers: Peers) -> None:
    """Counters raised by transactions of several threads, and domains, at once lose no step."""
    platforms = [p for p in peers if peers.factory.peers_in_one_process] or [peers.platforms[0]]
    first = platforms[0]
    with workplace(peers, first) as path:
        first.store.write(f"{path}/counter", b"0")
        permissions = [f"n{first.domid}", *(f"b{p.domid}" for p in platforms[1:])]
        first.store.set_permissions(f"{path}/counter", permissions)
        barrier = threading.Barrier(4)

        def work(platform: Platform) -> None:
            barrier.wait(peers.patience)
            for _ in range(10):
                while True:
                    try:
                        platform.store.transact(raise_counter)
                        break
                    except StoreConflict:  # allowed under so much competition: nothing was changed
                        continue

        def raise_counter(view: StoreView) -> None:
            value = int(view.read(f"{path}/counter"))
            time.sleep(0.0005)  # so that they do meet
            view.write(f"{path}/counter", b"%d" % (value + 1))

        workers = [Work(work, platforms[number % len(platforms)]) for number in range(4)]
        for worker in workers:
            worker.result(peers.patience * 2, "ten transactions")
        demand_equal(first.store.read(f"{path}/counter"), b"40", "the counter")


@check("store")
def bad_path_or_value_is_refused(peers: Peers) -> None:
    """A path that cannot be one, or a value too long, is refused with an exception of ours and harms nothing."""
    platform = peers.platforms[0]
    with workplace(peers, platform) as path:
        for name in ("/double", "trailing/", "sp ace", "x" * 4000, "a\0b"):
            with refused(RefimplError, f"a write to {name[:20]!r}"):
                platform.store.write(f"{path}/{name}", b"1")
        with refused(RefimplError, "a value of 70000 bytes"):
            platform.store.write(f"{path}/long", b"v" * 70_000)
        platform.store.write(f"{path}/good", b"1")
        demand_equal(platform.store.list(path), ["good"], "what is there")
