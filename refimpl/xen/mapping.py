"""A device's pages in this process's memory, unmapped when nothing looks at them any more.

Not :class:`mmap.mmap`, which keeps a duplicate of the descriptor for each map (two for every socket, and a forked child
holds them all, so that a dead parent's grants live on).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import weakref

from refimpl.errors import Misuse

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FAILED = ctypes.c_void_p(-1).value


class Mapping:
    """``size_bytes`` of a device from ``offset`` on, shared; ``memory`` is the one view of it, format ``"B"``.

    Every view taken of ``memory`` keeps the pages mapped, so that a forgotten one reads stale bytes and never crashes.
    A forked child does not have the pages. Raises OSError.
    """

    memory: memoryview

    def __init__(self, descriptor: int, offset: int, size_bytes: int, *, writable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        address = _libc.mmap(None, size_bytes, protection, mmap.MAP_SHARED, descriptor, offset)
        if address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        _libc.madvise(address, size_bytes, mmap.MADV_DONTFORK)
        area = (ctypes.c_ubyte * size_bytes).from_address(address)
        self._writable = writable
        self._area = weakref.ref(area)
        self._unmapped = weakref.finalize(area, _unmap, address, size_bytes, os.getpid())
        self._unmapped.atexit = False
        self._look_at(area)

    def _look_at(self, area: ctypes.Array[ctypes.c_ubyte]) -> None:
        view = pickle.PickleBuffer(area).raw()
        self.memory = view if self._writable else view.toreadonly()

    def close(self) -> None:
        """Unmap the pages. A second call does nothing.

        Raises Misuse, with everything as it was, while a view of :attr:`memory` other than that itself is held.
        """
        try:
            self.memory.release()
        except BufferError as error:
            raise Misuse("an array still looks at these pages: drop it before giving them back") from error
        area = self._area()
        if area is not None:
            self._look_at(area)
            raise Misuse("a view still looks at these pages: release it before giving them back")


def _unmap(address: int, size_bytes: int, process: int) -> None:
    # A forked child has something else at this address by now.
    if os.getpid() == process:
        _libc.munmap(address, size_bytes)
