"""The store of the simple platform: a dictionary, one lock, and a thread that tells watches."""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Callable, Sequence

from refimpl.errors import (
    ForkedDomain,
    Misuse,
    StoreAccessRefused,
    StoreConflict,
    StoreLost,
    StoreNoEntry,
    StoreQuotaReached,
)
from refimpl.platform import Result, Store, StoreView, Watch

QUOTA_NODES = 400
PATH = re.compile(r"/?[A-Za-z0-9_@-]+(/[A-Za-z0-9_@-]+)*|/")


class Nodes:
    """All nodes: path -> (value, permissions); and who watches what."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.tree = {"/": (b"", ("n0",))}
        self.watches = []
        self.stopped = False

    def join(self, platform):
        with self.lock:
            home = f"/local/domain/{platform.domid}"
            for path, permissions in ((home, ("n0", f"r{platform.domid}")), (f"{home}/data", (f"n{platform.domid}",))):
                make_parents(self.tree, path, 0)
                self.tree[path] = (b"", permissions)
            return SimpleStore(self, platform)

    def tell(self, path, *, removed=False) -> None:
        for watch in list(self.watches):
            if path == watch.path or path.startswith(watch.path.rstrip("/") + "/"):
                watch.store.events.put((watch, path))
            elif removed and watch.path.startswith(path + "/"):
                watch.store.events.put((watch, watch.path))


def parent_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def make_parents(tree, path, domid):
    missing = []
    while path not in tree:
        missing.append(path)
        path = parent_of(path)
    owner, *others = tree[path][1]
    if domid:
        owner = f"{owner[0]}{domid}"
    for each in reversed(missing):
        tree[each] = (b"", (owner, *others))
    return missing


class View(StoreView):
    """Reads and writes on a tree, as one domain."""

    def __init__(self, store, tree, touched) -> None:
        self.store, self.tree, self.touched = store, tree, touched

    def locked(self):
        self.store.check()  # first: a forked child finds the lock as some other thread left it
        return self.store.nodes.lock

    def path_of(self, path: str) -> str:
        self.store.check()
        if not PATH.fullmatch(path) or len(path) > 3000:
            raise Misuse(f"no path: {path[:40]!r}")
        return path if path.startswith("/") else f"/local/domain/{self.store.domid}/{path}"

    def may(self, path: str, mode: str) -> None:
        owner, *others = self.tree[path][1]
        granted = next((p[0] for p in others if p[1:] == str(self.store.domid)), owner[0])
        if self.store.domid and owner[1:] != str(self.store.domid) and granted not in (mode, "b"):
            raise StoreAccessRefused("EACCES", path)

    def find(self, path: str, mode: str = "r") -> str:
        path = self.path_of(path)
        if path not in self.tree:
            raise StoreNoEntry("ENOENT", path)
        self.may(path, mode)
        return path

    def read(self, path: str) -> bytes:
        with self.locked():
            return self.tree[self.find(path)][0]

    def write(self, path: str, value: bytes) -> None:
        if len(value) > 3000:
            raise StoreQuotaReached("E2BIG", path)
        with self.locked():
            path = self.create(path)
            self.tree[path] = (value, self.tree[path][1])
            self.change(path)

    def make_directory(self, path: str) -> None:
        with self.locked():
            if self.path_of(path) not in self.tree:
                self.change(self.create(path))

    def create(self, path: str) -> str:
        path = nearest = self.path_of(path)
        while nearest not in self.tree:
            nearest = parent_of(nearest)
        self.may(nearest, "w")
        own = sum(p[0][1:] == str(self.store.domid) for _, p in self.tree.values())
        if path not in self.tree and self.store.domid and own >= QUOTA_NODES:
            raise StoreQuotaReached("ENOSPC", path)
        make_parents(self.tree, path, self.store.domid)
        return path

    def remove(self, path: str) -> None:
        with self.locked():
            path = self.path_of(path)
            if path in self.tree:
                self.may(path, "w")
                for each in [p for p in self.tree if p == path or p.startswith(path + "/")]:
                    del self.tree[each]
                self.change(path, removed=True)
            elif parent_of(path) not in self.tree:
                raise StoreNoEntry("ENOENT", path)

    def list(self, path: str) -> list[str]:
        with self.locked():
            path = self.find(path).rstrip("/")
            return [p.rpartition("/")[2] for p in self.tree if p != "/" and parent_of(p) == (path or "/")]

    def get_permissions(self, path: str):
        with self.locked():
            return list(self.tree[self.find(path)][1])

    def set_permissions(self, path: str, permissions: Sequence[str]) -> None:
        with self.locked():
            path = self.find(path, "w")
            if self.store.domid and self.tree[path][1][0][1:] != str(self.store.domid):
                raise StoreAccessRefused("EACCES", path)
            self.tree[path] = (self.tree[path][0], tuple(permissions))
            self.change(path)

    def change(self, path: str, *, removed=False) -> None:
        self.touched.append((path, removed))
        if self.tree is self.store.nodes.tree:
            self.store.nodes.tell(path, removed=removed)


class SimpleWatch(Watch):
    def __init__(self, store, path, callback) -> None:
        self.store, self.path, self.callback = store, path, callback

    def cancel(self) -> None:
        self.store.check(closed=False)
        with self.store.calling:  # not in the middle of a call, unless it is the call itself
            with self.store.nodes.lock:
                if self in self.store.nodes.watches:
                    self.store.nodes.watches.remove(self)
            self.callback = None


class SimpleStore(View, Store):
    def __init__(self, nodes, platform) -> None:
        super().__init__(self, nodes.tree, [])
        self.nodes, self.domid = nodes, platform.domid
        self.platform = platform
        self.calling, self.events = threading.RLock(), queue.SimpleQueue()
        self.closed = False
        self.on_lost_calls = []
        self.thread = threading.Thread(target=self._tell, daemon=True)
        self.thread.start()

    def check(self, closed=True) -> None:
        if os.getpid() != self.platform._process:
            raise ForkedDomain("forked")
        if closed and (self.closed or self.nodes.stopped):
            raise StoreLost("closed")

    def _tell(self) -> None:
        while (event := self.events.get()) is not None:
            watch, path = event
            with self.calling:
                if watch.callback is not None:
                    watch.callback(path)

    def transact(self, action: Callable[[StoreView], Result]) -> Result:
        self.check()
        for _ in range(20):
            with self.nodes.lock:
                before, copy, touched = dict(self.nodes.tree), dict(self.nodes.tree), []
            result = action(View(self, copy, touched))
            with self.nodes.lock:
                if self.nodes.tree == before:
                    self.nodes.tree.clear()
                    self.nodes.tree.update(copy)
                    for path, removed in touched:
                        self.nodes.tell(path, removed=removed)
                    return result
        raise StoreConflict("EAGAIN")

    def watch(self, path: str, callback: Callable[[str], None]) -> Watch:
        path = self.path_of(path)
        watch = SimpleWatch(self, path, callback)
        with self.nodes.lock:
            self.nodes.watches.append(watch)
            self.events.put((watch, path))
        return watch

    def on_lost(self, callback: Callable[[], None]) -> None:
        self.on_lost_calls.append(callback)
        if self.nodes.stopped:
            self.lose()

    def lose(self) -> None:
        calls, self.on_lost_calls = self.on_lost_calls, []
        for call in calls:
            call()

    def is_introduced(self, domid: int) -> bool:
        self.check()
        return domid in self.platform.machine.domains

    def close(self) -> None:
        self.check(closed=False)
        with self.calling, self.nodes.lock:
            self.nodes.watches[:] = [w for w in self.nodes.watches if w.store is not self]
        self.closed = True
        self.events.put(None)
        if threading.current_thread() is not self.thread:
            self.thread.join()
