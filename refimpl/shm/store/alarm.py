"""A clock that a selector can wait for: the kernel's timerfd, which Python itself offers only from 3.13 on."""

from __future__ import annotations

import ctypes
import math
import os
import time

_libc = ctypes.CDLL(None, use_errno=True)


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("first", _Time))


class Alarm:
    """Readable once every ``seconds`` while it is on; costs nothing while it is off, as it is at first."""

    def __init__(self, seconds: float) -> None:
        self._period = _Time(int(seconds), int(math.modf(seconds)[0] * 1e9))
        self._is_on = False
        self._fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def switch(self, on: bool) -> None:
        """Let it ring every period, or never."""
        if on != self._is_on:
            self._is_on = on
            period = self._period if on else _Time(0, 0)
            _libc.timerfd_settime(self._fd, 0, ctypes.byref(_Setting(period, period)), None)

    def acknowledge(self) -> None:
        """Stop being readable until it rings again."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
