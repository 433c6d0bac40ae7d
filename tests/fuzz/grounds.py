"""Where both machines fight: a run, its domain 0, and guests that come and die."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from refimpl.shm import ShmPlatform
from refimpl.testing.attack import EDGES
from refimpl.testing.pair import shm_run
from refimpl.toolstack import attach, detach, introduce_domain_nodes

PATIENCE = 30.0
NUMBER = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**32 - 1))

#: How often a machine is run; ``nox -s fuzz`` asks for more.
EXAMPLES = int(os.environ.get("REFIMPL_FUZZ_EXAMPLES", "10"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


class Grounds:
    """A run and its domain 0."""

    def __init__(self, stack: ExitStack) -> None:
        self.run = stack.enter_context(shm_run())
        self.zero = stack.enter_context(ShmPlatform.join(self.run, domid=0, arena_pages=1024))
        introduce_domain_nodes(self.zero.store, 0)

    def new_guest(self) -> ShmPlatform:
        """A new domain with a device."""
        platform = ShmPlatform.join(self.run, arena_pages=256)
        introduce_domain_nodes(self.zero.store, platform.domid)
        attach(self.zero.store, platform.domid)
        return platform

    def end_guest(self, platform: ShmPlatform) -> None:
        """Let it die, and have the toolstack clean up after it."""
        platform.close()
        detach(self.zero.store, platform.domid, force=True, timeout=0.2)

    def held(self) -> dict[str, int]:
        """What domain 0 holds: pages granted, maps of others' pages, ports."""
        return {
            "free pages": self.zero._domain.arena.free_page_count,
            "maps": sum(row.in_use for row in self.zero._mapper._rows.values()),
            "ports": len(self.zero._channels._channels),
        }


def await_equal(wanted: Any, look: Callable[[], Any]) -> None:
    """Wait for a value that no event tells of."""
    deadline, gate = time.monotonic() + PATIENCE, threading.Event()
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, f"{found}, not {wanted}"
        gate.wait(0.002)
