"""Either end killed at each step, while another guest is served: nothing stays, and nobody else notices."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import backends
import pytest
import services
from guests import Guest
from programs import Conversation, Program

from refimpl.backend import Backend, Policy, Settings
from refimpl.backend.observer import Observer
from refimpl.xen import XenPlatform

pytestmark = pytest.mark.timeout(400)
PERSISTENT = "python3 tests/xen/guest/persistent.py"


def held_here() -> dict[str, int]:
    """Return what this process holds: descriptors, and what it maps of guests."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "maps": sum(line.endswith("/dev/xen/gntdev") for line in maps),
    }


def held_in_xen(guest: Guest) -> dict[str, int]:
    """Return what Xen counts: event channels between dom0 and the guest, and the guest's grants that dom0 maps."""
    channels = subprocess.check_output(["lsevtchn", "0"], text=True)
    subprocess.run(["xl", "dmesg", "-c"], check=True, capture_output=True)
    subprocess.run(["xl", "debug-keys", "g"], check=True)
    table = subprocess.check_output(["xl", "dmesg"], text=True, errors="replace")
    of_guest = table.partition(f"grant-table for remote d{guest.domid} ")[2].partition("grant-table for remote")[0]
    assert of_guest, table
    mapped = [
        line for line in of_guest.splitlines() if re.search(r"\[0x[0-9a-f]+\]\s+0 0x[0-9a-f]+ 0x0*[1-9a-f]", line)
    ]
    return {
        "event channels": sum(f"Remote Domain: {guest.domid} " in f"{line} " for line in channels.splitlines()),
        "mapped grants": len(mapped),
    }


def test_frontend_killed_at_each_step(guest: Guest, neighbour: Guest) -> None:
    with services.running(), backends.running("refimpl"), Program(neighbour) as other:
        before = held_here(), held_in_xen(guest)
        guest.pytest("guest/test_deaths.py", name="deaths", FRONT="refimpl", BACK="refimpl")
        other.say(b"nothing happened")
        guest.run("xenstore-write device/pvcalls/0/state 1")
        services.await_connections(1)
        assert (held_here(), held_in_xen(guest)) == before


class Doom(Observer):
    """Kills its own process at a step."""

    def __init__(self, step: str) -> None:
        self._step = step

    def _reach(self, what: str) -> None:
        if what == self._step:
            os.kill(os.getpid(), signal.SIGKILL)

    def state_changed(self, guest: int, state: Any) -> None:
        """See :class:`Observer`."""
        self._reach(state.name)

    def request_taken(self, guest: int, request: Any) -> None:
        """See :class:`Observer`."""
        self._reach(type(request).__name__)

    def step_begun(self, guest: int, request: Any, step: Any) -> None:
        """See :class:`Observer`."""
        self._reach(f"{type(request).__name__} {type(step).__name__}")

    def response_put(self, guest: int, request: Any, ret: int, reason: str) -> None:
        """See :class:`Observer`."""
        self._reach(f"{type(request).__name__} answered")


def fork_backend(step: str) -> int:
    """Serve all guests in a child of this process, until it comes to the step."""
    child = os.fork()
    if child == 0:
        try:
            with XenPlatform.open() as platform:
                Backend(platform, Settings(policy=Policy(allow_everything=True), observer=Doom(step))).run()
        finally:
            os._exit(1)
    return child


def test_backend_killed_at_each_step(guest: Guest) -> None:
    """The frontend's calls end with an error, in time; with the next backend the same guest goes on."""
    steps = ("INIT_WAIT", "CONNECTED", "SocketRequest", "ConnectRequest MapDataRing", "ConnectRequest answered")
    with services.running(), closing(Conversation(guest, PERSISTENT)) as frontend:
        before = held_in_xen(guest)
        for step in (*steps, "ReleaseRequest CloseSocket"):
            child = fork_backend(step)
            answer = frontend.ask("go")
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, (step, answer)
            services.await_connections(0)
            if not step.startswith("Release"):  # Then the frontend had all it wanted.
                assert answer != "ok", step
            with backends.running("refimpl"):
                assert frontend.ask("go") == "ok", step
        assert held_in_xen(guest) == before
