"""Memory barriers that plain CPython can reach, used by both platforms.

Python reorders nothing and tears no aligned 32-bit access, but the processor does reorder: on x86 a store followed
by a load of another word can pass each other, and two Python processes do see it.

A release of a process-private semaphore is an atomic read-modify-write, a full fence on x86; release *followed by*
acquire is one on arm64 too. The order also means that nobody can ever block here.
"""

from __future__ import annotations

import functools
import multiprocessing
import platform as machine_platform
from collections.abc import Callable

from refimpl.platform import Fences

# Total store order: only a store followed by a load can pass each other, so read and write fences cost nothing.
_TOTAL_STORE_ORDER = machine_platform.machine().lower() in {"x86_64", "amd64", "i686", "i386", "s390x"}


def _nothing() -> None:
    """Order nothing: the processor already keeps this order."""


def _make_full_fence() -> Callable[[], None]:
    # From the fork context: the others leave a name in /dev/shm and start a tracker process.
    semaphore = multiprocessing.get_context("fork").Semaphore(0)
    release, acquire = semaphore.release, semaphore.acquire

    def full_fence() -> None:
        release()
        acquire()

    return full_fence


@functools.cache
def fences() -> Fences:
    """Return this machine's fences, one set a process."""
    full = _make_full_fence()
    if _TOTAL_STORE_ORDER:
        return Fences(full=full, read=_nothing, write=_nothing)
    return Fences(full=full, read=full, write=full)
