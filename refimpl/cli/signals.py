"""Ctrl-C and SIGTERM as an orderly end.

Python runs a signal's handler in the main thread, between two of its steps. One that comes just before that thread goes
to sleep in the kernel, or that the kernel gives to another thread, is seen only when something else wakes it. So a
thread of ours hears of signals, from the pipe that Python's part in C writes to at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

#: What asks us to stop.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: What to call for each signal, by the thread that hears of them; it runs once somebody has asked.
_callbacks: dict[int, Callable[[], None]] = {}


@contextlib.contextmanager
def calling(callback: Callable[[], None], numbers: Sequence[int] = STOP_SIGNALS) -> Iterator[None]:
    """Within the context, call ``callback()``, in a thread of its own, instead of what the signals do.

    The signals are those that ask us to stop, unless others are given. Main thread only.
    """
    if not _callbacks:
        _start_to_hear()
    before = {number: _callbacks.get(number) for number in numbers}
    _callbacks.update(dict.fromkeys(numbers, callback))
    previous = {number: signal.signal(number, _is_heard_elsewhere) for number in numbers}
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, previous[number])
            if (earlier := before[number]) is not None:
                _callbacks[number] = earlier
            else:
                del _callbacks[number]
        if not _callbacks:
            os.close(signal.set_wakeup_fd(-1))


def _start_to_hear() -> None:
    hearing, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(hearing, True)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_hear, args=(hearing,), name="signals", daemon=True).start()


def _hear(hearing: int) -> None:
    """Call what is to be called, until the other end of the pipe is closed."""
    with open(hearing, "rb", buffering=0) as pipe:
        while numbers := pipe.read(64):
            for number in numbers:
                if number in _callbacks:
                    _callbacks[number]()


def _is_heard_elsewhere(_number: int, _frame: FrameType | None) -> None:
    """Have Python take the signal, and nothing else."""


def _forget_in_child() -> None:
    """A forked child would tell its parent of its own signals."""
    if _callbacks:
        _callbacks.clear()
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget_in_child)


@contextlib.contextmanager
def unwinding(first: Callable[[], None]) -> Iterator[None]:
    """Within the context, have Ctrl-C and SIGTERM end what runs as an exception does, so that nothing is left of it.

    Only the first does, after ``first()`` was called: what takes things down is not interrupted.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        first()
        raise SystemExit(128 + number)

    previous = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[set[int]]:
    """Within the context, let nobody end us: between the start of something and our knowing of it.

    Gives what was held back before, for a child, which inherits that.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def stop_descriptor() -> Iterator[int]:
    """Give a descriptor that becomes readable when we are to stop."""
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        with calling(lambda: os.eventfd_write(descriptor, 1)):
            yield descriptor
    finally:
        os.close(descriptor)
