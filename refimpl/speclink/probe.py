"""Record, while a test runs, which citing statements are reached: in this process and in its children.

:mod:`refimpl.speclink.instrument` puts a call of :func:`ran` in front of each statement of interest. In the process
that runs the tests the calls are kept per test. A child, forked or started, appends to a file of its own, a line at the
first time of each statement, so that nothing is lost when it is killed.

A thread that was there before the test began counts for none, nor does a process started outside of a
test's own set-up.

Imports little, since every process of a recorded run imports it.
"""

from __future__ import annotations

import os
import threading

#: Where children write, and for which test; set in the environment of a recorded run.
FOLDER_VARIABLE = "REFIMPL_EVIDENCE_FOLDER"
TEST_VARIABLE = "REFIMPL_EVIDENCE_TEST"


class _Recorder:
    """What has been reached for the current test, and where it goes."""

    def __init__(self) -> None:
        self.reached: set[str] = set()
        self.foreign_threads: frozenset[int] = frozenset()
        self.file: int | None = None  # a child's own
        self.is_open = False

    def add(self, key: str) -> None:
        if not self.is_open or threading.get_ident() in self.foreign_threads:
            return
        self.reached.add(key)
        if self.file is not None:
            os.write(self.file, f"{key}\n".encode())


_recorder = _Recorder()


def ran(key: str) -> None:
    """Note that the statement named ``path:line`` is about to run."""
    if key not in _recorder.reached:
        _recorder.add(key)


def begin(test: str) -> None:
    """Start recording for a test, in the process that runs it."""
    _recorder.reached = set()
    _recorder.foreign_threads = frozenset(
        thread.ident for thread in threading.enumerate() if thread.ident and thread.ident != threading.get_ident()
    )
    _recorder.is_open = True
    os.environ[TEST_VARIABLE] = test


def pause() -> None:
    """Record nothing until :func:`resume`, nor in children started meanwhile."""
    _recorder.is_open = False
    os.environ.pop(TEST_VARIABLE, None)


def resume(test: str) -> None:
    """Go on recording for the test."""
    _recorder.is_open = True
    os.environ[TEST_VARIABLE] = test


def end() -> set[str]:
    """Stop recording and return what the test reached in this process."""
    pause()
    return _recorder.reached


def of_children(folder: str, test: str) -> set[str]:
    """Return what the test's children reached."""
    reached: set[str] = set()
    for entry in os.scandir(folder):
        if entry.name.startswith(f"{test}."):
            with open(entry.path, encoding="ascii") as file:
                # A child killed in the middle of a line leaves part of one: only whole lines count.
                reached.update(line.rstrip("\n") for line in file if line.endswith("\n"))
    return reached


def become_child() -> None:
    """In a child process: record into a file of our own, if the environment says for which test."""
    _recorder.is_open = False
    _recorder.reached = set()
    folder, test = os.environ.get(FOLDER_VARIABLE), os.environ.get(TEST_VARIABLE)
    if not folder or not test:
        return
    try:
        path = os.path.join(folder, f"{test}.{os.getpid()}")
        _recorder.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return  # the recorded run is over: nobody reads it any more
    _recorder.foreign_threads = frozenset()
    _recorder.is_open = True


os.register_at_fork(after_in_child=become_child)
