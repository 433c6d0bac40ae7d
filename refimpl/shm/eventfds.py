"""A domain's wake-up for one that waits for descriptors too: an eventfd in the semaphore's place.

A backend waits for its sockets and for its guests at once, and a POSIX semaphore cannot be selected on. An eventfd has
no name: the hypervisor makes it and hands it to the domain, and to its peers with the segments.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from functools import partial
from time import monotonic

from refimpl.shm.semaphores import post


class Eventfd:
    """One that others post, with what is used of ``posix_ipc.Semaphore``; without a descriptor, a new one."""

    def __init__(self, descriptor: int | None = None) -> None:
        # Not blocking: posted 2**64 - 1 times too often it raises OSError, and needs no more.
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if descriptor is None else descriptor
        #: Post it. Raises OSError.
        self.release: Callable[[], None] = partial(os.eventfd_write, self.descriptor, 1)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


class EventfdWakeUp:
    """As :class:`~refimpl.shm.semaphores.WakeUp`, on an eventfd, which is its own from now on."""

    def __init__(self, eventfd: Eventfd) -> None:
        self._eventfd = eventfd
        self._poll = select.poll()
        self._poll.register(eventfd.descriptor, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor, readable once posted and until :meth:`drain`."""
        return self._eventfd.descriptor

    def drain(self) -> None:
        """Take the posts that are there. Look for what they announced *after* this, before any sleep."""
        try:
            os.eventfd_read(self._eventfd.descriptor)
        except BlockingIOError:
            pass

    def sleep(self, deadline: float | None) -> bool:
        """Take the posts that are there, or wait for one, and look *after* this.

        Returns False when the deadline has passed.
        """
        milliseconds = None if deadline is None else max(0.0, deadline - monotonic()) * 1000
        if not self._poll.poll(milliseconds):
            return False
        self.drain()
        return True

    def post(self) -> None:
        """End the sleep in progress, or else the next one."""
        post(self._eventfd)

    def __del__(self) -> None:
        # Nobody can be sleeping: whoever does holds this object.
        self._eventfd.close()
