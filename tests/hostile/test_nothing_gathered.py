"""Peers that take nothing: what the backend costs then."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from refimpl.frontend import Frontend
from refimpl.shm import ShmPlatform
from refimpl.testing.fuzzing import give_device, holdings, ready_store
from refimpl.testing.processes import End, counted_backend, store

CONNECTIONS = 8
WATCHED_SECONDS = 1.0


class Cost(NamedTuple):
    """Of the backend: how much of a processor, and memory of its own before and after, in KiB."""

    processor: float
    resident_kib: tuple[int, int]


def processor_seconds(pid: int) -> float:
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


@contextlib.contextmanager
def sending_server() -> Iterator[tuple[tuple[str, int], list[socket.socket]]]:
    """Accept connections, send into each as much as goes, read nothing; give the address and the connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS) as listener:
        accepted: list[socket.socket] = []

        def serve() -> None:
            for _ in range(CONNECTIONS):
                connection = listener.accept()[0]
                connection.settimeout(0.2)
                accepted.append(connection)
                with contextlib.suppress(TimeoutError):
                    while True:
                        connection.sendall(bytes(1 << 16))

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname(), accepted
        thread.join()
        for each in accepted:
            each.close()


def cost_of_peers_that_take_nothing() -> Cost:
    with (
        tempfile.TemporaryDirectory(prefix="refimpl-") as folder,
        sending_server() as (address, accepted),
        End(store, run := f"{folder}/run") as storing,
        closing(ready_store(storing, run)) as client,
        End(counted_backend, run) as served,
    ):
        served.heard()
        with ShmPlatform.join(run, arena_pages=1024) as platform:
            give_device(client, platform.domid)
            with Frontend.open(platform, ring_order=4) as frontend, contextlib.ExitStack() as stack:
                first = stack.enter_context(frontend.create_connection(address))
                before = holdings(served.pid).resident_kib
                connections = [first]
                connections += [
                    stack.enter_context(frontend.create_connection(address)) for _ in range(CONNECTIONS - 1)
                ]
                for each in connections:
                    each.settimeout(0.2)
                    with pytest.raises(TimeoutError):
                        while True:
                            each.sendall(bytes(1 << 16))
                used, began = processor_seconds(served.pid), time.monotonic()
                threading.Event().wait(WATCHED_SECONDS)
                used, elapsed = processor_seconds(served.pid) - used, time.monotonic() - began
                after = holdings(served.pid).resident_kib
                for each in connections:
                    stack.callback(each.close, 0)  # They wait for nobody.
                for peer in accepted:
                    peer.close()
    return Cost(used / elapsed, (before, after))


@pytest.mark.security("SEC-B-13")
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not tell what a thread used")
def test_peers_that_take_nothing_cost_neither_memory_nor_a_processor() -> None:
    cost = cost_of_peers_that_take_nothing()
    if cost.processor >= 0.05:
        cost = cost_of_peers_that_take_nothing()
    assert cost.processor < 0.05, cost
    assert cost.resident_kib[1] - cost.resident_kib[0] < 1024, cost
