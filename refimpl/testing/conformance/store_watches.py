"""Checks of watches: what they fire on, in which thread, and until when.

Spec: Xenstore.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from refimpl.platform import Platform, StoreView, Watch
from refimpl.testing.conformance.checks import Work, check, demand, demand_equal
from refimpl.testing.conformance.factory import Peers
from refimpl.testing.conformance.store_nodes import workplace


def flush(platform: Platform, patience: float) -> None:
    """Wait until the store has delivered all that was on its way: a new watch's first event comes after it."""
    delivered = threading.Event()
    watch = platform.store.watch(f"/local/domain/{platform.domid}/data", lambda path: delivered.set())
    if not delivered.wait(patience):
        raise AssertionError("lost watch event: registration")
    watch.cancel()


class Changes:
    """A watch that collects what it is told."""

    def __init__(self, platform: Platform, path: str, patience: float) -> None:
        self._condition = threading.Condition()
        self._patience = patience
        self.paths: list[str] = []
        self._taken = 0
        self._platform = platform
        self.watch: Watch = platform.store.watch(path, self._changed)
        self.await_event("registration")

    def _changed(self, path: str) -> None:
        with self._condition:
            self.paths.append(path)
            self._condition.notify_all()

    def await_event(self, what: str, patience: float | None = None) -> str:
        """Wait until the watch fired since the last call; return the last path."""
        with self._condition:
            if not self._condition.wait_for(lambda: len(self.paths) > self._taken, patience or self._patience):
                raise AssertionError(f"lost watch event: {what}")
            self._taken = len(self.paths)
            return self.paths[-1]

    def expect(self, what: str, change: Callable[[], object]) -> str:
        """Make a change once all earlier events have come, and wait for its own; return the path it told."""
        flush(self._platform, self._patience)
        with self._condition:
            self._taken = len(self.paths)
        change()
        return self.await_event(what)

    def cancel(self) -> None:
        """Cancel the watch."""
        self.watch.cancel()


@check("store")
def watch_fires_at_once_and_on_every_kind_of_change(peers: Peers) -> None:
    """A watch fires at registration and on each change at or below its path: write, new child, permissions, removal."""
    alpha, beta = peers
    for watcher in (alpha, beta):
        with workplace(peers, watcher) as path:
            store = watcher.store
            steps: list[tuple[str, Callable[[], object]]] = [
                ("a write", partial(store.write, f"{path}/x", b"1")),
                ("a write of the same value", partial(store.write, f"{path}/x", b"1")),
                ("a write below", partial(store.write, f"{path}/x/y/z", b"1")),
                ("a new directory below", partial(store.make_directory, f"{path}/x/directory")),
                ("a change of permissions", partial(store.set_permissions, f"{path}/x", [f"n{watcher.domid}"])),
                ("a removal below", partial(store.remove, f"{path}/x/y")),
                ("the removal of the node", partial(store.remove, f"{path}/x")),
                ("the node's return", partial(store.write, f"{path}/x", b"2")),
            ]
            for node in (f"{path}/x", path):
                changes = Changes(watcher, node, peers.patience)
                for what, change in steps:
                    told = changes.expect(what, change)
                    demand(told.startswith(node), f"{what}: {told} is not at or below {node}")
                changes.cancel()
                store.remove(f"{path}/x")


@check("store")
def callbacks_run_in_the_stores_own_thread(peers: Peers) -> None:
    """All callbacks run in one thread of the store's own, one after the other, and never in their caller's."""
    alpha, _ = peers
    with workplace(peers, alpha) as path:
        threads: list[int] = []
        watches = [alpha.store.watch(path, lambda _: threads.append(threading.get_ident())) for _ in range(3)]
        for turn in range(5):
            alpha.store.write(f"{path}/x", b"%d" % turn)
        flush(alpha, peers.patience)
        for watch in watches:
            watch.cancel()
        demand(len(threads) >= 3, "each watch fires at registration")
        demand_equal(len(set(threads)), 1, "threads that ran callbacks")
        demand(threading.get_ident() not in threads, "a callback ran in the thread that made the change")


@check("store")
def watch_sees_its_parent_removed(peers: Peers) -> None:
    """A watch fires when a parent of its node is removed, and works on when the node comes back."""
    alpha, _ = peers
    with workplace(peers, alpha) as path:
        alpha.store.write(f"{path}/a/b/c", b"1")
        changes = Changes(alpha, f"{path}/a/b/c", peers.patience)
        changes.expect("the removal of the parent", partial(alpha.store.remove, f"{path}/a"))
        changes.expect("the node's return", partial(alpha.store.write, f"{path}/a/b/c", b"2"))
        changes.cancel()


@check("store")
def watch_sees_another_domains_change(peers: Peers) -> None:
    """A watch fires on changes that another domain makes, in a transaction when it ends."""
    alpha, beta = peers
    with workplace(peers, beta) as path:
        beta.store.write(f"{path}/x", b"0")
        beta.store.set_permissions(f"{path}/x", [f"n{beta.domid}", f"b{alpha.domid}"])
        changes = Changes(beta, f"{path}/x", peers.patience)
        for turn in range(50):
            changes.expect("another domain's write", partial(alpha.store.write, f"{path}/x", b"%d" % turn))
            demand_equal(beta.store.read(f"{path}/x"), b"%d" % turn, "the value after the event")

        def action(view: StoreView) -> None:
            view.write(f"{path}/x", b"transaction")
            calls = len(changes.paths)
            flush(beta, peers.patience)
            demand_equal(len(changes.paths), calls, "events before the transaction ended")

        changes.expect("another domain's transaction", partial(alpha.store.transact, action))
        demand_equal(beta.store.read(f"{path}/x"), b"transaction", "the value after the transaction")
        changes.cancel()


@check("store")
def cancelled_watch_is_silent(peers: Peers) -> None:
    """Once cancel returns the callback is not called again; cancelling twice, or from the callback, is allowed."""
    alpha, _ = peers
    with workplace(peers, alpha) as path:
        kept, cancelled = (Changes(alpha, path, peers.patience) for _ in range(2))
        for turn in range(20):
            alpha.store.write(f"{path}/x", b"%d" % turn)
        cancelled.cancel()
        calls = len(cancelled.paths)
        alpha.store.write(f"{path}/x", b"later")
        cancelled.cancel()
        flush(alpha, peers.patience)
        demand_equal(len(cancelled.paths), calls, "calls after cancel returned")
        kept.cancel()

        fired = threading.Event()
        watches: list[Watch] = []

        def once(changed: str) -> None:
            if watches:  # Over /dev/xen/xenbus the first event comes before the registration's answer.
                watches[0].cancel()
                fired.set()

        watches.append(Work(alpha.store.watch, path, once).result(peers.patience, "a registration"))
        alpha.store.write(f"{path}/x", b"once")
        demand(fired.wait(peers.patience), "cancel from the callback did not return")
