"""Ctrl-C and SIGTERM as an orderly end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def calling(callback: Callable[[], None], numbers: Sequence[int] = _SIGNALS) -> Iterator[None]:
    """Within the context, call ``callback()`` instead of what the signals do; it must be safe in a handler.

    The signals are those that ask us to stop, unless others are given.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        callback()

    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stop_descriptor() -> Iterator[int]:
    """Give a descriptor that becomes readable when we are to stop."""
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        with calling(lambda: os.eventfd_write(descriptor, 1)):
            yield descriptor
    finally:
        os.close(descriptor)
