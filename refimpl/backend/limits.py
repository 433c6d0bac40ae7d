"""What one guest may take of the backend, and how long its calls may last (SEC-B-6, SEC-B-24)."""

from __future__ import annotations

import resource
from dataclasses import dataclass

#: Descriptors that a backend needs for itself: its platform, store, loop, and what each guest costs beside sockets.
_OWN_DESCRIPTORS = 64
#: The last of the descriptors, one in so many, are for guests that have only a few sockets.
_KEPT_PART = 4
_FEW_SOCKETS = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one guest. Counts are of things at one time; seconds are wall time."""

    sockets: int = 1024
    listeners: int = 64
    pending_connects: int = 32
    #: Pending ACCEPTs of one listener; past it the answer is EINTR, since EAGAIN is forbidden (E-ACC-CONC).
    pending_accepts: int = 8
    backlog: int = 128
    connect_seconds: float = 75.0
    #: What all of a guest's sockets move together, in both directions; None for as much as they can.
    bytes_per_second: int | None = None
    #: How long RELEASE goes on sending what is in ``out``; under a limit of bytes a second so long again as long as
    #: bytes move, 120 s in all. What is left then is lost.
    drain_seconds: float = 10.0
    #: How long a frontend may take to close after the toolstack removes its device.
    closing_seconds: float = 5.0


class SharedDescriptors:
    """The descriptors that all guests' sockets share: one guest leaves some to the others, whatever its own limit."""

    def __init__(self) -> None:
        self.most = max(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OWN_DESCRIPTORS)
        self.taken = 0

    @property
    def most_of_one(self) -> int:
        """How many one guest can have, if the others have none."""
        return max(_FEW_SOCKETS, self.most - self.most // _KEPT_PART)

    def may_take(self, has: int) -> bool:
        """Say whether a guest that has so many may take one more."""
        return has < _FEW_SOCKETS or self.taken < self.most_of_one  # SEC-B-6
