"""A domain's one semaphore, as the domain itself sleeps on it.

posix_ipc's acquire raises at every signal, forgets what a signal's handler raised unless that is KeyboardInterrupt, and
counts its time-out by the wall clock. So a sleep ends at a signal, and a clock that is set back costs a second.
"""

from __future__ import annotations

from time import monotonic

import posix_ipc

#: Seconds of the wall clock that one acquire is given.
_LONGEST_ACQUIRE = 1.0
#: Posts taken at once; more only come from somebody who posts for fun.
_MOST_DRAINED = 1 << 16


class WakeUp:
    """Sleeps until somebody posts the semaphore. For one thread at a time, except :meth:`post`."""

    def __init__(self, semaphore: posix_ipc.Semaphore) -> None:
        self._semaphore = semaphore
        self._acquire = semaphore.acquire
        self._release = semaphore.release

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
        try:
            if deadline is None:
                self._acquire()
            else:
                left = deadline - monotonic()
                if left <= 0:
                    return False
                self._acquire(min(left, _LONGEST_ACQUIRE))
        except posix_ipc.BusyError:
            return True
        except posix_ipc.SignalError:
            return False
        if self._semaphore.value:
            self.drain()
        return True

    def post(self) -> None:
        """End the sleep in progress, or else the next one."""
        post(self._semaphore)

    def __del__(self) -> None:
        # Nobody can be in acquire(): whoever sleeps holds this object.
        self._semaphore.close()


def post(semaphore: posix_ipc.Semaphore) -> None:
    """Post a semaphore; one that was posted 2**31 - 1 times too often needs no more."""
    try:
        semaphore.release()
    except OSError:
        pass
