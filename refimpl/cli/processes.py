"""Child processes that never outlive us, each a ``refimpl`` command of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

from refimpl.cli.signals import held_back
from refimpl.errors import RefimplError
from refimpl.ready import is_readable, readable

_PR_SET_PDEATHSIG = 1
_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
#: Started, and not yet in the hands of a ``with``.
_nobodys: set[Child] = set()


def stop_nobodys() -> None:
    """End the child that has just been started, if there is one: whoever started it may never come to know of it."""
    for child in list(_nobodys):
        child.process.terminate()


def _prepare(parent: int, mask: set[int]) -> None:
    """In the child, before exec: be killed when the parent is, so that nothing is left running."""
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # It died before that took effect.
        os._exit(1)


class Child:
    """A running ``refimpl`` command; use it as a context manager, or :meth:`stop` it."""

    def __init__(
        self,
        *arguments: str,
        waits_until_ready: bool = False,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
    ) -> None:
        self.name = arguments[0]
        command = [sys.executable, "-m", "refimpl", *arguments]
        read_end, write_end = os.pipe()
        try:
            if waits_until_ready:
                command += ["--ready-fd", str(write_end)]
            parent = os.getpid()
            with held_back() as mask:
                self.process = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=stdout,
                    pass_fds=(write_end,) if waits_until_ready else (),
                    preexec_fn=lambda: _prepare(parent, mask),
                    start_new_session=True,  # Ctrl-C is the parent's; it stops us in its own order.
                )
                _nobodys.add(self)
            os.close(write_end)
            write_end = -1
            if waits_until_ready:
                self._wait_until_ready(read_end)
        except BaseException:
            if hasattr(self, "process"):
                self.stop()
            raise
        finally:
            os.close(read_end)
            if write_end >= 0:
                os.close(write_end)

    def _wait_until_ready(self, read_end: int) -> None:
        if is_readable(read_end, _START_SECONDS) and os.read(read_end, 16):
            return
        raise RefimplError(f"`refimpl {self.name}` did not start; it said why above")

    def stop(self, timeout: float = _STOP_SECONDS) -> int:
        """End it as Ctrl-C would, by force if it does not; return its exit status."""
        _nobodys.discard(self)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def __enter__(self) -> Child:
        _nobodys.discard(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def wait_for_any(children: Sequence[Child], stop_descriptor: int) -> Child | None:
    """Wait until one of the children ends and return it, or None when ``stop_descriptor`` becomes readable."""
    descriptors = {os.pidfd_open(child.process.pid): child for child in children}
    try:
        ended = readable([*descriptors, stop_descriptor])
        return next((descriptors[each] for each in ended if each in descriptors), None)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
