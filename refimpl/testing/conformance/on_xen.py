"""The suite's surroundings in one Xen domain alone: it grants to itself, and binds its own event channels.

Its domains are several holds on the same devices, in this process or in others: one domid for all, so that what keeps
domains apart cannot be shown, and the death of a process is no domain's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from refimpl.platform import Platform
from refimpl.testing.conformance.factory import Factory, Peers, Spawned
from refimpl.testing.conformance.spawned import SpawnedProcess

_OPEN = "refimpl.xen.domain:XenPlatform.open"


class XenFactory(Factory):
    """Several holds on this Xen domain. With ``in_processes`` all but the first are in processes of their own."""

    distinct_domids = False
    process_is_domain = False
    can_exhaust = False  # what the whole domain may grant is not this test's alone

    def __init__(self, *, in_processes: bool = False, patience: float = 60.0) -> None:
        from refimpl.xen.domain import XenPlatform

        self.name = "xen-processes" if in_processes else "xen"
        self.patience = patience
        self.peers_in_one_process = not in_processes
        self._open = XenPlatform.open
        with self._open() as platform:
            self.first_is_privileged = platform.domid == 0

    @property
    def stranger(self) -> int:
        """See :attr:`Factory.stranger`."""
        return 32_000

    @contextmanager
    def peers(self, count: int = 2) -> Iterator[Peers]:
        """See :meth:`Factory.peers`."""
        with ExitStack() as stack:
            platforms: list[Platform] = [stack.enter_context(self._open())]
            for _ in range(count - 1):
                if self.peers_in_one_process:
                    platforms.append(stack.enter_context(self._open()))
                else:
                    platforms.append(stack.enter_context(self.spawn()).platform)
            yield Peers(self, platforms)

    def spawn(self, domid: int | None = None) -> Spawned:
        """See :meth:`Factory.spawn`."""
        return SpawnedProcess(_OPEN, {})
