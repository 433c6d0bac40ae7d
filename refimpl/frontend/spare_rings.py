"""Data rings whose sockets were released, kept for sockets to come.

To grant the pages of a ring, and to have a backend's hypervisor give them back, costs more than all else about a short
connection. So a ring that the backend has let go of, by answering RELEASE, is kept, and RELEASE has promised that: with
its grants, its event channel and its own copy of the page that lists them. The backend saw every byte in it already.

Spec: Commands Ring > Release (``reuse``).
"""

from __future__ import annotations

import threading

from refimpl.frontend.data_ring_pages import DataRingPages

#: So many, unless another number is asked for: of order 9 16 MiB, of order 4 a seventh of what a Xen guest may grant.
SPARE_RINGS = 8


class SpareRings:
    """The rings one device has to spare, about ``most``. For any number of threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rings: list[DataRingPages] = []
        self._is_over = False
        self._lock = threading.Lock()

    def has_room(self) -> bool:
        """Say whether one more may be promised."""
        return len(self._rings) < self._most

    def keep(self, ring: DataRingPages) -> None:
        """Keep a ring that was promised, as new; several at once may be a few too many."""
        with self._lock:
            if not self._is_over:
                self._rings.append(ring)
                return
        ring.end()

    def take(self) -> DataRingPages | None:
        """Return the ring kept last; None where there is none."""
        with self._lock:
            return self._rings.pop() if self._rings else None  # RELEASE-8 (E-REUSE)

    def end(self) -> None:
        """Give all of them back, and keep none from now on."""
        with self._lock:
            self._is_over = True
            rings, self._rings = self._rings, []
        for ring in rings:
            ring.end()

    def disown(self) -> None:
        """In a forked child: own none, and wait for no thread that is not here."""
        self._lock = threading.Lock()
        self._rings = []
