"""What a backend costs while nothing happens: memory of its own for each idle socket, and processor time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from refimpl.cli.bench.rounds import Result
from refimpl.cli.bench.workloads import SOCKETS_RING_ORDER
from refimpl.cli.options import open_platform, status_path
from refimpl.cli.processes import Child
from refimpl.cli.signals import held_back
from refimpl.errors import RefimplError

IDLE_SOCKETS = 1000
#: How long nothing happens, and the same for `--quick`.
IDLE_SECONDS = 10.0
QUICK_SECONDS = 2.0
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


def measure_idle(seconds: float, sockets: int = IDLE_SOCKETS) -> list[Result]:
    """Open so many sockets to an ordinary server, do nothing for so long; return both figures. Raises RefimplError."""
    from refimpl.backend.status import ask
    from refimpl.frontend import Frontend

    with contextlib.ExitStack() as stack:
        with held_back():
            run = str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refimpl-bench-")), "run"))
        peer = stack.enter_context(Child("bench-peer", "echo", stdout=subprocess.PIPE))
        assert peer.process.stdout is not None
        with peer.process.stdout as said:
            address = ("127.0.0.1", int(said.readline() or 0))
        stack.enter_context(Child("host", "--run", run, waits_until_ready=True, stdout=subprocess.DEVNULL))
        platform = stack.enter_context(open_platform("shm", run))
        frontend = stack.enter_context(Frontend.open(platform, ring_order=SOCKETS_RING_ORDER))
        backend = next(line["pid"] for line in ask(status_path("shm", run)) if line["kind"] == "backend")
        stack.enter_context(frontend.create_connection(address))  # What the first one costs is no socket's.
        before = _own_memory_kib(backend)
        for _ in range(sockets):
            stack.enter_context(frontend.create_connection(address))
        memory = (_own_memory_kib(backend) - before) / sockets
        used, began = _processor_seconds(backend), time.monotonic()
        threading.Event().wait(seconds)
        used, elapsed = _processor_seconds(backend) - used, time.monotonic() - began
    return [_result(sockets, memory, "KiB a socket"), _result(sockets, 100 * used / elapsed, "% of a core")]


def _own_memory_kib(pid: int) -> int:
    """Return the resident memory of a process but for what it shares: files, and the rings' pages, a guest's."""
    try:
        resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[1:3])
    except OSError as error:
        raise RefimplError(f"the backend has ended: {error}") from None
    return (resident - shared) * _PAGE_KIB


def _processor_seconds(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _result(sockets: int, figure: float, unit: str) -> Result:
    return Result(
        work="idle",
        subject="pvcalls",
        direction=None,
        message_bytes=None,
        ring_order=SOCKETS_RING_ORDER,
        open_sockets=sockets,
        median=figure,
        p99=None,
        unit=unit,
        ratio_to_direct=None,
        ratio_min=None,
        ratio_max=None,
        rounds=1,
    )
