"""What the frontend sets up for a connection: an indexes page, the data ring's pages, and an event channel.

    indexes page --ref[]--> 2**ring_order pages: in | out

All of it is ours, and zeroed; the refs and the order that end it are our own copies, never read back from the page.

Spec: Commands Ring > Connect, Accept, Release; Indexes Page and Data ring.
"""

from __future__ import annotations

from contextlib import ExitStack

from refimpl.data_ring.indexes_page import PUBLISHED, IndexesPage, PageLayout
from refimpl.data_ring.structure import page_count
from refimpl.errors import LimitReached
from refimpl.frontend.waiting import Events
from refimpl.platform import GrantedPages, Platform


class DataRingPages:
    """The grants and the event channel of one data ring, until :meth:`end`.

    ``ref`` and ``port`` go into CONNECT or ACCEPT. ``ring_order`` is the order asked for, or the largest below it that
    the platform has room for. Raises LimitReached with nothing kept.
    """

    def __init__(self, platform: Platform, peer: int, ring_order: int, layout: PageLayout = PUBLISHED) -> None:
        self._events = Events.of(platform)
        with ExitStack() as undo:
            page = platform.grant(peer, 1)  # CONNECT-4, ACCEPT-5, IDX-3, SEC-F-8
            undo.callback(page.end)
            ring, self.ring_order = _grant_ring(platform, peer, ring_order)  # CONNECT-2, ACCEPT-3
            undo.callback(ring.end)
            self.port = platform.allocate_unbound(peer)  # CONNECT-3, ACCEPT-4
            undo.callback(self._events.close_port, self.port)
            self.ref = page.refs[0]
            self.memory = ring.memory
            self.indexes_page = IndexesPage(page.memory, layout, peer)
            undo.callback(self.indexes_page.release)
            self.indexes_page.describe_ring(self.ring_order, ring.refs)  # IDXPAGE-3, IDX-4, IDXPAGE-6
            self._page, self._described = page, bytes(page.memory)
            self._undo = undo.pop_all()

    def renew(self, in_bytes: int, out_bytes: int) -> None:
        """Make them as new after a connection that carried so many bytes, whatever stands in the indexes page."""
        half = len(self.memory) // 2
        for start, count in ((0, min(in_bytes, half)), (half, min(out_bytes, half))):
            self.memory[start : start + count] = bytes(count)  # SEC-F-8
        self._page.memory[:] = self._described  # SEC-F-5, SEC-F-8
        self._events.renew_port(self.port)

    def end(self) -> None:
        """End the grants and close the event channel; a second call does nothing.

        All views of the memory must have been let go of. Needs nothing of what the peer can write (SEC-F-5).
        """
        self._undo.close()  # RELEASE-5, SEC-F-5, SEC-F-9


def _grant_ring(platform: Platform, peer: int, ring_order: int) -> tuple[GrantedPages, int]:
    """Grant the largest data ring there is room for, from ``ring_order`` pages downwards."""
    while True:
        try:
            return platform.grant(peer, page_count(ring_order)), ring_order
        except LimitReached:
            if ring_order == 1:  # IDXPAGE-5
                raise
            ring_order -= 1
