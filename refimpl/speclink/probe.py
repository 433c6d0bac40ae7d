"""Record, while a test runs, which citing statements are reached: in this process and in its children.

:mod:`refimpl.speclink.instrument` puts a probe, a call of :func:`ran`, in front of each statement of interest. In the
process that runs the tests the calls are kept per test. A child, forked or started, appends to a file of its own, a
line at the first time of each statement, so that nothing is lost when it is killed.

A thread that was there before the test began counts for none, nor do threads that it starts, nor does a thread or
process started outside of a test's own set-up.

Imports little, since every process of a recorded run imports it.
"""

from __future__ import annotations

import os
import threading
import weakref

#: Where children write, and for which test; set in the environment of a recorded run.
FOLDER_VARIABLE = "REFIMPL_EVIDENCE_FOLDER"
TEST_VARIABLE = "REFIMPL_EVIDENCE_TEST"


#: What needs no second look: probes ask it before they call :func:`ran`, so that they cost next to nothing in a loop.
seen: set[str] = set()


class _Recorder:
    """What has been reached for the current test, and where it goes."""

    def __init__(self) -> None:
        self.reached: set[str] = set()
        self.foreign: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self.file: int | None = None  # a child's own
        self.is_open = False


_recorder = _Recorder()


def ran(key: str) -> None:
    """Note that the statement named ``path:line`` is about to run."""
    if _recorder.is_open:
        if threading.current_thread() in _recorder.foreign:
            return
        _recorder.reached.add(key)
        if _recorder.file is not None:
            os.write(_recorder.file, f"{key}\n".encode())
    seen.add(key)


_start_thread = threading.Thread.start


def _start(thread: threading.Thread) -> None:
    if not _recorder.is_open or threading.current_thread() in _recorder.foreign:
        _recorder.foreign.add(thread)
    _start_thread(thread)


def watch_threads() -> None:
    """From now on know of each thread who started it."""
    threading.Thread.start = _start  # type: ignore[method-assign, assignment]


def unwatch_threads() -> None:
    """Undo :func:`watch_threads`."""
    threading.Thread.start = _start_thread  # type: ignore[method-assign]


def begin(test: str) -> None:
    """Start recording for a test, in the process that runs it."""
    _recorder.reached = set()
    here = threading.current_thread()
    _recorder.foreign = weakref.WeakSet(thread for thread in threading.enumerate() if thread is not here)
    resume(test)


def pause() -> None:
    """Record nothing until :func:`resume`, nor in children started meanwhile."""
    _recorder.is_open = False
    os.environ.pop(TEST_VARIABLE, None)


def resume(test: str) -> None:
    """Go on recording for the test."""
    os.environ[TEST_VARIABLE] = test
    _recorder.is_open = True
    # After the flag, not before: what was reached meanwhile and not recorded is to be looked at again.
    seen.clear()


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
    _recorder.foreign.clear()
    _recorder.is_open = True
    seen.clear()


os.register_at_fork(after_in_child=become_child)
