"""A store with two guests' nodes, a backend that only follows orders, and Debian's own eyes on the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from refimpl.platform import Store, StoreView
from refimpl.store.client import StoreClient
from refimpl.toolstack import introduce_domain_nodes

PATIENCE = 60.0


def dump(view: Store, path: str = "/") -> dict[str, tuple[bytes, str]]:
    """Return all nodes below a path with value and permissions, less what xenstored makes for itself."""
    found = {}
    for name in view.list(path):
        child = f"{path.rstrip('/')}/{name}"
        if child == "/tool":
            continue
        found[child] = (view.read(child), ",".join(view.get_permissions(child)))
        found |= dump(view, child)
    return found


@pytest.fixture
def store(store_server) -> Iterator[StoreClient]:
    """Domain 0's connection, with the nodes of domains 0, 1 and 2 written."""
    with closing(StoreClient.connect(store_server.path, timeout=PATIENCE)) as store:
        for domid in range(3):
            if domid:
                store_server.introduce(domid)
            introduce_domain_nodes(store, domid)
        yield store


@pytest.fixture
def list_with_debians_tool(store_server) -> Callable[[], dict[str, tuple[str, str]]]:
    """List the whole tree by ``xenstore-ls -fp``."""
    if shutil.which("xenstore-ls") is None:
        pytest.skip("package xenstore-utils is not installed")

    def listing() -> dict[str, tuple[str, str]]:
        environment = {**os.environ, "XENSTORED_PATH": store_server.path}
        command = ["xenstore-ls", "-fp"]
        lines = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        pattern = re.compile(r'(/\S*) = "(.*)" +\((.*)\)')
        nodes = {}
        for line in lines.splitlines():
            match = pattern.fullmatch(line)
            assert match, line
            if not match[1].startswith("/tool"):
                nodes[match[1]] = (match[2], match[3])
        return nodes

    return listing


class ObedientBackend:
    """Goes to Closed when it is told to close; ``seen`` are the values of its state and online that it saw."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._path = path
        self._changed = threading.Event()
        self._is_over = False
        self.seen: list[tuple[bytes | None, bytes | None]] = []
        self._watch = store.watch(path, lambda _path: self._changed.set())
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self._changed.wait(PATIENCE) and not self._is_over:
            self._changed.clear()
            self.seen.append(self._store.transact(self._look))
            if self.seen[-1][0] == b"5":
                self._store.write(f"{self._path}/state", b"6")

    def _look(self, view: StoreView) -> tuple[bytes | None, bytes | None]:
        return view.read_or_none(f"{self._path}/state"), view.read_or_none(f"{self._path}/online")

    def close(self) -> None:
        self._is_over = True
        self._watch.cancel()
        self._changed.set()
        self._thread.join(PATIENCE)


@pytest.fixture
def obedient_backend(store) -> Iterator[Callable[[str], ObedientBackend]]:
    backends = []

    def start(path: str) -> ObedientBackend:
        backends.append(ObedientBackend(store, path))
        return backends[-1]

    yield start
    for backend in backends:
        backend.close()


@pytest.fixture
def dump_of() -> Callable[..., dict[str, tuple[bytes, str]]]:
    return dump
