"""The two shared memory segments of a domain, and the hypervisor's list of who lives.

- the *arena*: its pages, from which it grants. Peers map it writable. The first :data:`FIRST_PAGE` pages are never
  granted: they hold the pending bytes of its event channels, one a port.
- the *tables*: what it grants, offers, has bound and has mapped. Only the domain itself writes them.

Both are sparse. A page must be reserved before anybody touches it, reading included, or a full /dev/shm is a SIGBUS
instead of an error. A peer that truncates its own segments while they are mapped cannot be defended against: Linux
seals only memory that never had a name. The platform models failure and death, not confidentiality.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import posix_ipc

from refimpl.errors import LimitReached, PlatformUnavailable
from refimpl.platform import PAGE_SIZE
from refimpl.shm.names import SHM_DIRECTORY

#: The first page that can be granted.
FIRST_PAGE = 8
#: Ports are 1 to PORT_COUNT - 1.
PORT_COUNT = FIRST_PAGE * PAGE_SIZE
#: Domids are 0 to DOMID_COUNT - 1, as in Xen.
DOMID_COUNT = 0x7FF0
#: A ref is a generation << PAGE_BITS | a page's number in the arena.
PAGE_BITS = 18
#: The pages of the biggest arena: 1 GiB.
LARGEST_ARENA = 1 << PAGE_BITS
#: How many grants later the refs of one may come again.
GENERATION_COUNT = 1 << 32 - PAGE_BITS
#: How many granters a domain can have pages mapped of, at once.
GRANTER_COUNT = 256

#: A domain's tables.
#:
#: - ``granted``, by page: 0, or the grant's generation << 17 | the domid it is for << 2 | writable << 1 | 1
#: - ``bound``, by port: 0, or the remote's incarnation << 32 | the offer's generation << 16 | the remote's port
#: - ``offered``, by port: 0, or a generation << 16 | the domid that may bind it
#: - ``port_limit``: no port from this one on is in use
#: - ``granters``: incarnations; row ``i`` of ``maps`` says, by page of ``granters[i]``, how many maps hold it
TABLES: np.dtype[Any] = np.dtype(
    [
        ("granted", "u4", (LARGEST_ARENA,)),
        ("bound", "u8", (PORT_COUNT,)),
        ("offered", "u4", (PORT_COUNT,)),
        ("port_limit", "u4"),
        ("granters", "u4", (GRANTER_COUNT,)),
        ("unused", "V3068"),
        ("maps", "u1", (GRANTER_COUNT, LARGEST_ARENA)),
    ]
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM}


def check_machine() -> None:
    """Raise PlatformUnavailable where this is not 64-bit Linux with 4 KiB pages."""
    if not sys.platform.startswith("linux"):
        raise PlatformUnavailable(f"the shm platform needs Linux, and this is {sys.platform}")
    if mmap.PAGESIZE != PAGE_SIZE:
        raise PlatformUnavailable(f"the shm platform needs pages of {PAGE_SIZE} bytes, not of {mmap.PAGESIZE}")
    if sys.maxsize < 1 << 32:
        raise PlatformUnavailable("the shm platform needs a 64-bit Python")
    if not SHM_DIRECTORY.is_dir():
        raise PlatformUnavailable(f"the shm platform needs {SHM_DIRECTORY}: mount a tmpfs there")


def create_segment(name: str, size_bytes: int) -> tuple[int, int]:
    """Create a sparse segment that has no name any more; return a descriptor to write it and one to read it only."""
    descriptors: list[int] = []
    try:
        descriptors.append(posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600, size=size_bytes).fd)
        try:
            descriptors.append(posix_ipc.SharedMemory(name, read_only=True).fd)
        finally:
            posix_ipc.unlink_shared_memory(name)
    except OSError as error:
        for descriptor in descriptors:
            os.close(descriptor)
        raise LimitReached("shared memory", None, f"creating {size_bytes} sparse bytes: {error}") from error
    return descriptors[0], descriptors[1]


def reserve(descriptor: int, offset: int, size_bytes: int) -> None:
    """Back a part of a segment with memory. Raises LimitReached where /dev/shm is full."""
    try:
        os.posix_fallocate(descriptor, offset, size_bytes)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        remedy = f"{SHM_DIRECTORY} is full ({error.strerror}): free some of it, or mount it bigger"
        raise LimitReached("shared memory", None, remedy) from error


def table_offset(field: str) -> int:
    """Return where in the tables a field begins, in bytes."""
    assert TABLES.fields is not None
    return int(TABLES.fields[field][1])


def is_segment(descriptor: int, size_bytes: int) -> bool:
    """Say whether a descriptor, from whoever sent it, is of shared memory with just that size."""
    with suppress(OSError):
        status = os.fstat(descriptor)
        same_device = status.st_dev == SHM_DIRECTORY.stat().st_dev
        return stat.S_ISREG(status.st_mode) and same_device and status.st_size == size_bytes
    return False


def map_segment(descriptor: int, size_bytes: int, *, writable: bool) -> mmap.mmap:
    """Map a whole segment. The mapping lives as long as a view of it, and needs no close."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
    try:
        return mmap.mmap(descriptor, size_bytes, mmap.MAP_SHARED, protection)
    except OSError as error:
        raise LimitReached("address space", None, f"mapping {size_bytes} bytes: {error.strerror}") from error


def view_tables(mapping: mmap.mmap) -> np.ndarray[Any, Any]:
    """View a mapping of the tables as the record that :data:`TABLES` describes."""
    return np.ndarray((), TABLES, mapping)
