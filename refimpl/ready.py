"""Waiting until descriptors are ready, by poll: select fails for a descriptor above 1023, and a program may have more.

For places that wait now and then; what waits for many, or often, keeps an epoll.
"""

from __future__ import annotations

import select
from typing import Protocol


class HasFileno(Protocol):
    """A socket, or another object with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


def is_readable(waited_for: int | HasFileno, timeout: float | None = None) -> bool:
    """Wait up to ``timeout`` seconds (None: for ever) until it can be read, has ended or has failed."""
    return bool(readable([waited_for], timeout))


def is_writable(waited_for: int | HasFileno, timeout: float | None = None) -> bool:
    """Wait up to ``timeout`` seconds (None: for ever) until it can be written to, or has failed."""
    return bool(_ready([waited_for], select.POLLOUT, timeout))


def readable(waited_for: list[int | HasFileno], timeout: float | None = None) -> list[int]:
    """Wait as :func:`is_readable` does for any of several; return the descriptors of those that are."""
    return _ready(waited_for, select.POLLIN, timeout)


def _ready(waited_for: list[int | HasFileno], event: int, timeout: float | None) -> list[int]:
    poll = select.poll()
    for each in waited_for:
        poll.register(each, event)
    milliseconds = None if timeout is None else max(0.0, timeout) * 1000
    return [descriptor for descriptor, _ in poll.poll(milliseconds)]
