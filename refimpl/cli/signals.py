"""Ctrl-C and SIGTERM as an orderly end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def calling(on_stop: Callable[[], None]) -> Iterator[None]:
    """Within the context, call ``on_stop()`` instead of what the two signals do; it must be safe in a handler."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        on_stop()

    previous = {number: signal.signal(number, handle) for number in _SIGNALS}
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
