"""Pages of a segment that do not lie together, mapped so that they do.

An anonymous mapping reserves the addresses; the C library's ``mmap`` with MAP_FIXED lays the segment's pages over it,
run by run. Closing the reservation, or its last view's end, unmaps them all.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from refimpl.errors import LimitReached
from refimpl.platform import PAGE_SIZE
from refimpl.shm.page_runs import Run

_MAP_FIXED = 0x10  # on every Linux architecture that Python runs on, and not in the mmap module
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]


def runs_of(pages: npt.NDArray[Any]) -> list[Run]:
    """Split page numbers, in their order, into runs of consecutive ones."""
    breaks = (np.diff(pages.astype(np.int64)) != 1).nonzero()[0] + 1
    edges = [0, *breaks.tolist(), len(pages)]
    return [Run(int(pages[start]), int(pages[end - 1]) + 1) for start, end in pairwise(edges)]


def map_scattered(descriptor: int, runs: Sequence[Run], *, writable: bool) -> mmap.mmap:
    """Map the runs of the segment's pages one after the other. Raises LimitReached with nothing mapped."""
    size_bytes = sum(run.page_count for run in runs) * PAGE_SIZE
    protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
    try:
        reservation = mmap.mmap(-1, size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(reservation))
        for run in runs:
            _lay_over(address, descriptor, run, protection)
            address += run.page_count * PAGE_SIZE
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        remedy = f"{len(runs)} mappings: raise vm.max_map_count, or unmap some"
        raise LimitReached("address space", None, remedy) from error
    return reservation


def _lay_over(address: int, descriptor: int, run: Run, protection: int) -> None:
    flags = mmap.MAP_SHARED | _MAP_FIXED
    offset = run.first * PAGE_SIZE
    if _libc.mmap(address, run.page_count * PAGE_SIZE, protection, flags, descriptor, offset) == _MAP_FAILED:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
