"""Maps of a peer's grants, by ``/dev/xen/gntdev``."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence

from refimpl.errors import GrantRefused, LimitReached, Misuse
from refimpl.platform import PAGE_SIZE, MappedPages
from refimpl.xen import ioctls
from refimpl.xen.devices import check_domid, check_process, open_device
from refimpl.xen.mapping import Mapping
from refimpl.xen.notice import set_notice

_LARGEST_REF = 2**32 - 1


class XenMappedPages(MappedPages):
    """Pages from :meth:`GrantMapper.map`."""

    def __init__(self, mapper: GrantMapper, peer: int, index: int, page_count: int, writable: bool) -> None:
        self.peer = peer
        self._mapper = mapper
        self._index = index
        self._page_count = page_count
        self._mapping = Mapping(mapper.descriptor, index, page_count * PAGE_SIZE, writable=writable)
        self.memory = self._mapping.memory

    def unmap(self) -> None:
        """Unmap the pages; a second call does nothing.

        Raises Misuse, with nothing unmapped, while a view of :attr:`memory` is held.
        """
        self._mapper.unmap(self)

    def leave_notice(self, *, clear_byte: int | None = None, send_event: int | None = None) -> None:
        """Let the kernel tell the granter when these pages are unmapped, or when this process dies, however it dies.

        It then sets the byte at offset ``clear_byte`` to 0 and sends an event on our port ``send_event``. One notice a
        map: a later one replaces it, and with neither it is taken back. The port stays open in Xen until the notice is
        gone. Raises PortRefused for a port not ours, Misuse for a byte of a read-only map.
        """
        self._mapper.leave_notice(self, clear_byte, send_event)


class GrantMapper:
    """An open ``/dev/xen/gntdev``. Raises PlatformUnavailable, PermissionRefused."""

    def __init__(self) -> None:
        self.descriptor = open_device("/dev/xen/gntdev", "xen-gntdev")
        self._live: set[XenMappedPages] = set()
        self._lock = threading.RLock()
        self._process = os.getpid()

    def map(self, peer: int, refs: Sequence[int], *, writable: bool = True) -> XenMappedPages:
        """Map the peer's grants contiguously, in the order of ``refs``. Raises GrantRefused, LimitReached."""
        check_domid(peer)
        if not refs:
            raise Misuse("a map of no refs")
        if not all(0 <= ref <= _LARGEST_REF for ref in refs):
            raise GrantRefused(peer, tuple(refs))
        index = self._announce(peer, refs)
        try:
            pages = XenMappedPages(self, peer, index, len(refs), writable)
        except OSError as error:
            self._forget(index, len(refs))
            if error.errno == errno.EINVAL:  # Bad, foreign, ended, read-only, or Xen's own table is full.
                raise GrantRefused(peer, tuple(refs)) from error
            raise LimitReached("maps in this process", remedy="see /proc/sys/vm/max_map_count") from error
        with self._lock:
            self._live.add(pages)
        return pages

    def _announce(self, peer: int, refs: Sequence[int]) -> int:
        """Tell the kernel what a map at the returned index shall be; nothing is mapped or checked yet."""
        argument = bytearray(ioctls.MAP_GRANT_REF_LAYOUT.pack(len(refs), 0))
        del argument[ioctls.MAP_GRANT_REF_LAYOUT.offset_of("refs") :]
        for ref in refs:
            argument += ioctls.GRANT_REF_LAYOUT.pack(peer, ref)
        try:
            ioctls.request(self.descriptor, ioctls.GNTDEV_MAP_GRANT_REF, argument)
        except OSError as error:
            remedy = "map fewer at once, or raise /sys/module/xen_gntdev/parameters/limit"
            raise LimitReached(f"pages in one map ({len(refs)} asked for)", remedy=remedy) from error
        index: int = ioctls.MAP_GRANT_REF_LAYOUT.unpack(argument)[1]
        return index

    def _forget(self, index: int, page_count: int) -> None:
        argument = ioctls.UNMAP_GRANT_REF_LAYOUT.pack(index, page_count)
        ioctls.request(self.descriptor, ioctls.GNTDEV_UNMAP_GRANT_REF, argument)

    def unmap(self, pages: XenMappedPages) -> None:
        """Unmap ``pages``; see :meth:`XenMappedPages.unmap`."""
        check_process(self._process)
        with self._lock:
            if pages not in self._live:
                return
            try:
                pages._mapping.close()
            finally:
                pages.memory = pages._mapping.memory
            self._live.remove(pages)
            self._forget(pages._index, pages._page_count)

    def leave_notice(self, pages: XenMappedPages, clear_byte: int | None, send_event: int | None) -> None:
        """Set the notice of ``pages``; see :meth:`XenMappedPages.leave_notice`."""
        check_process(self._process)
        with self._lock:
            if pages not in self._live:
                raise Misuse("these pages were given back")
            set_notice(self.descriptor, pages._index, pages._page_count * PAGE_SIZE, clear_byte, send_event)

    def close(self) -> None:
        """Unmap everything. Pages that somebody still looks at are unmapped when the last view goes."""
        with self._lock:
            for pages in list(self._live):
                try:
                    self.unmap(pages)
                except Misuse:
                    continue
            self._live.clear()
            os.close(self.descriptor)
