"""Grants of our own pages, by ``/dev/xen/gntalloc``."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from refimpl.errors import LimitReached, Misuse
from refimpl.platform import PAGE_SIZE, GrantedPages
from refimpl.xen import ioctls
from refimpl.xen.devices import check_domid, check_process, open_device
from refimpl.xen.mapping import Mapping
from refimpl.xen.notice import set_notice

#: Linux's own limit on the pages of a whole domain, 1024 unless raised; root may write it at any time.
LIMIT_PARAMETER = Path("/sys/module/xen_gntalloc/parameters/limit")
_GREF_IDS = ioctls.ALLOC_GREF_LAYOUT.offset_of("gref_ids")


class XenGrantedPages(GrantedPages):
    """Pages from :meth:`GrantAllocator.grant`.

    The kernel keeps a page until both we and the peer have let go of it; such pages do not count against the limit.
    """

    def __init__(self, allocator: GrantAllocator, peer: int, refs: tuple[int, ...], index: int) -> None:
        self.peer = peer
        self.refs = refs
        self._allocator = allocator
        self._index = index
        self._ended = False
        self._mapping = Mapping(allocator.descriptor, index, len(refs) * PAGE_SIZE, writable=True)
        self.memory = self._mapping.memory

    def end(self) -> None:
        """End the grants and give the pages back; a second call does nothing.

        Raises Misuse, with nothing ended, while a view of :attr:`memory` is held: Linux ends no grant of a page
        still mapped here.
        """
        self._allocator.end(self)

    def leave_notice(self, *, clear_byte: int | None = None, send_event: int | None = None) -> bool:
        """Let the kernel tell the peer when these pages are given back, or when this process dies, however it dies.

        It then sets the byte at offset ``clear_byte`` to 0 and sends an event on our port ``send_event``. One notice a
        page: a later one for the same page replaces it, and with neither it is taken back. The port stays open in Xen
        until the notice is gone. Raises PortRefused for a port not ours.
        """
        self._allocator.leave_notice(self, clear_byte, send_event)
        return True


class GrantAllocator:
    """An open ``/dev/xen/gntalloc``. Raises PlatformUnavailable, PermissionRefused."""

    def __init__(self) -> None:
        self.descriptor = open_device("/dev/xen/gntalloc", "xen-gntalloc")
        self._live: set[XenGrantedPages] = set()
        self._lock = threading.RLock()
        self._process = os.getpid()

    def grant(self, peer: int, page_count: int, *, writable: bool = True) -> XenGrantedPages:
        """Grant zeroed pages to ``peer``. Raises LimitReached with nothing granted."""
        check_domid(peer)
        if page_count < 1:
            raise Misuse(f"cannot grant {page_count} pages")
        index, refs = self._allocate(peer, page_count, writable)
        try:
            pages = XenGrantedPages(self, peer, refs, index)
        except OSError as error:
            self._deallocate(index, page_count)
            raise LimitReached("maps in this process", remedy="see /proc/sys/vm/max_map_count") from error
        with self._lock:
            self._live.add(pages)
        return pages

    def _allocate(self, peer: int, page_count: int, writable: bool) -> tuple[int, tuple[int, ...]]:
        layout = ioctls.ALLOC_GREF_LAYOUT
        flags = ioctls.GNTALLOC_FLAG_WRITABLE if writable else 0
        argument = bytearray(layout.pack(peer, flags, page_count, 0, 0))
        argument.extend(bytes(_GREF_IDS + 4 * page_count - min(len(argument), _GREF_IDS + 4 * page_count)))
        try:
            ioctls.request(self.descriptor, ioctls.GNTALLOC_ALLOC_GREF, argument)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                raise _limit_reached(page_count) from error
            raise
        index = layout.unpack(argument)[3]
        with memoryview(argument) as view, view[_GREF_IDS : _GREF_IDS + 4 * page_count].cast("I") as refs:
            return index, tuple(refs)

    def _deallocate(self, index: int, page_count: int) -> None:
        argument = ioctls.DEALLOC_GREF_LAYOUT.pack(index, page_count)
        ioctls.request(self.descriptor, ioctls.GNTALLOC_DEALLOC_GREF, argument)

    def end(self, pages: XenGrantedPages) -> None:
        """End the grants of ``pages``; see :meth:`XenGrantedPages.end`."""
        check_process(self._process)
        with self._lock:
            if pages not in self._live:
                return
            try:
                pages._mapping.close()
            finally:
                pages.memory = pages._mapping.memory
            self._live.remove(pages)
            self._deallocate(pages._index, len(pages.refs))

    def leave_notice(self, pages: XenGrantedPages, clear_byte: int | None, send_event: int | None) -> None:
        """Set the notice of ``pages``; see :meth:`XenGrantedPages.leave_notice`."""
        check_process(self._process)
        with self._lock:
            if pages not in self._live:
                raise Misuse("these pages were given back")
            set_notice(self.descriptor, pages._index, len(pages.refs) * PAGE_SIZE, clear_byte, send_event)

    def close(self) -> None:
        """End every grant. Pages that somebody still looks at are ended by the kernel when the last view goes."""
        with self._lock:
            for pages in list(self._live):
                try:
                    self.end(pages)
                except Misuse:
                    continue
            self._live.clear()
            os.close(self.descriptor)


def _limit_reached(page_count: int) -> LimitReached:
    try:
        limit = int(LIMIT_PARAMETER.read_text())
    except (OSError, ValueError):
        limit = None
    return LimitReached(
        f"pages to grant ({page_count} asked for)",
        limit,
        f"end other grants, ask for a smaller ring order, or raise it: echo 65536 | sudo tee {LIMIT_PARAMETER}",
    )
