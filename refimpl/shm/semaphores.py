"""A domain's one semaphore, as the domain itself sleeps on it.

posix_ipc's acquire counts a time-out by the wall clock: a clock set back while it sleeps would make the sleep so much
longer, one set forward ends it at once. So a sleep that has a deadline is the C library's ``sem_clockwait``, by the
clock that nobody sets. posix_ipc's also raises at every signal, and forgets what a signal's handler raised unless that
is KeyboardInterrupt: a sleep without a deadline ends at a signal.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import time
from time import monotonic
from typing import Protocol

import posix_ipc

from refimpl.errors import PlatformUnavailable

#: Seconds that one wait is given; any number the C library can take.
_LONGEST_WAIT = 1e6
#: Posts taken at once; more only come from somebody who posts for fun.
_MOST_DRAINED = 1 << 16


class _Time(ctypes.Structure):
    """``struct timespec``."""

    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class WakeUp:
    """Sleeps until somebody posts the semaphore, which has its name still. For one thread at a time, but :meth:`post`.

    Raises OSError where the name is gone, PlatformUnavailable where the C library is too old.
    """

    def __init__(self, semaphore: posix_ipc.Semaphore) -> None:
        self._semaphore = semaphore
        self._acquire = semaphore.acquire
        self._release = semaphore.release
        self._time = _Time()
        self._address = _open(semaphore.name)
        self._wait_until, self._close = _library().sem_clockwait, _library().sem_close

    def fileno(self) -> None:
        """Return no descriptor: there is none to select on."""

    def drain(self) -> None:
        """Take the posts that are there. Look for what they announced *after* this, before any sleep."""
        try:
            for _ in range(min(self._semaphore.value, _MOST_DRAINED)):
                self._acquire(0)
        except posix_ipc.BusyError:
            pass

    def sleep(self, deadline: float | None) -> bool:
        """Take the posts that are there, or wait for one, and look *after* this; it ends early now and then.

        Returns False when there is no use in sleeping on: the deadline has passed, or a signal's handler ran.
        """
        if deadline is not None:
            if not self._sleep_until(deadline):
                return False
        else:
            try:
                self._acquire()
            except posix_ipc.SignalError:
                return False
        if self._semaphore.value:
            self.drain()
        return True

    def _sleep_until(self, deadline: float) -> bool:
        now = monotonic()
        if deadline <= now:
            return False
        until, fraction = divmod(min(deadline, now + _LONGEST_WAIT), 1)
        self._time.seconds, self._time.nanoseconds = int(until), int(fraction * 1e9)
        if self._wait_until(self._address, time.CLOCK_MONOTONIC, ctypes.byref(self._time)) == 0:
            return True
        return ctypes.get_errno() == errno.ETIMEDOUT  # The next call says whether that was the deadline.

    def post(self) -> None:
        """End the sleep in progress, or else the next one."""
        post(self._semaphore)

    def __del__(self) -> None:
        # Nobody can be sleeping: whoever does holds this object.
        if hasattr(self, "_close"):
            self._close(self._address)
        self._semaphore.close()


class Postable(Protocol):
    """A semaphore, or what stands in its place."""

    def release(self) -> None:
        """Post it. Raises OSError."""


def post(semaphore: Postable) -> None:
    """Post a semaphore; one that was posted 2**31 - 1 times too often needs no more."""
    try:
        semaphore.release()
    except OSError:
        pass


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.sem_open.argtypes, library.sem_open.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    library.sem_close.argtypes = (ctypes.c_void_p,)
    try:
        library.sem_clockwait.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    except AttributeError:
        raise PlatformUnavailable("the shm platform needs sem_clockwait: glibc 2.30 or later") from None
    return library


def _open(name: str) -> int:
    """Return where the semaphore of this name is in memory."""
    address: int | None = _library().sem_open(os.fsencode(name), 0)
    if address is None:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return address
