"""What one guest may take of the backend, and how long its calls may last (SEC-B-6, SEC-B-24)."""

from __future__ import annotations

from dataclasses import dataclass


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
