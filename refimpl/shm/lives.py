"""Who lives: the hypervisor's page of words, one a domid, that every domain maps read-only.

A word is 0 or the incarnation that has the domid now. No incarnation's number is used twice within a run, so that a
domain that died and came again is another one to whoever kept the number.
"""

from __future__ import annotations

import os

from refimpl.errors import LimitReached, PermissionRefused
from refimpl.shm.names import object_name
from refimpl.shm.segments import DOMID_COUNT, create_segment, is_segment, map_segment, reserve

LIVES_SIZE = DOMID_COUNT * 4


class Lives:
    """The page as the hypervisor has it, who alone writes it."""

    def __init__(self, run: str) -> None:
        writable, self.descriptor = create_segment(object_name(run, "lives"), LIVES_SIZE)
        try:
            reserve(writable, 0, LIVES_SIZE)
            self._words = memoryview(map_segment(writable, LIVES_SIZE, writable=True)).cast("I")
        finally:
            os.close(writable)
        self._last_domid = 0
        self._last_incarnation = 0
        self._given: set[int] = set()

    def give(self, wanted: int | None) -> tuple[int, int]:
        """Return a domid that nobody has, with its new incarnation, which does not live yet.

        Raises PermissionRefused (the wanted one lives), LimitReached.
        """
        if wanted is not None and wanted in self._given:
            raise PermissionRefused(f"domain {wanted} lives already, in another process")
        domid = wanted if wanted is not None else self._next()
        self._given.add(domid)
        self._last_incarnation += 1
        return domid, self._last_incarnation

    def begin(self, domid: int, incarnation: int) -> None:
        """Let all see that the incarnation lives."""
        self._words[domid] = incarnation

    def end(self, domid: int) -> None:
        """Let all see that nobody has the domid, and give it to whoever asks for it."""
        self._words[domid] = 0
        self._given.discard(domid)

    def close(self) -> None:
        """Close the descriptor; domains keep what they map."""
        os.close(self.descriptor)

    def _next(self) -> int:
        # Counting on as Xen does: a domid comes again only when all others were used.
        for step in range(1, DOMID_COUNT):
            domid = (self._last_domid + step - 1) % (DOMID_COUNT - 1) + 1
            if domid not in self._given:
                self._last_domid = domid
                return domid
        raise LimitReached("domids", DOMID_COUNT - 1, "end some domains")


def map_lives(descriptor: int) -> memoryview:
    """Map the page as a domain does, and close the descriptor. Raises PermissionRefused where it is none."""
    try:
        if not is_segment(descriptor, LIVES_SIZE):
            raise PermissionRefused("what the run's hypervisor sent is not its page of who lives")
        return memoryview(map_segment(descriptor, LIVES_SIZE, writable=False)).cast("I")
    finally:
        os.close(descriptor)
