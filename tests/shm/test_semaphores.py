"""Sleeping on a semaphore."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import posix_ipc
import pytest

from refimpl.shm.names import object_name
from refimpl.shm.semaphores import WakeUp, post

PATIENCE = 30.0


@pytest.fixture
def semaphore():
    made = posix_ipc.Semaphore(object_name(secrets.token_hex(4), "1s"), posix_ipc.O_CREX)
    yield made
    with contextlib.suppress(posix_ipc.ExistentialError):
        posix_ipc.unlink_semaphore(made.name)


@pytest.fixture
def wake_up(semaphore):
    return WakeUp(semaphore)


def soon(seconds: float = PATIENCE) -> float:
    return time.monotonic() + seconds


def test_drain_takes_every_post(wake_up, semaphore) -> None:
    wake_up.drain()
    for _ in range(100):
        wake_up.post()
    wake_up.drain()
    assert semaphore.value == 0


def test_sleep_ends_with_a_post(wake_up, semaphore) -> None:
    wake_up.post()
    assert wake_up.sleep(soon())
    assert semaphore.value == 0
    posting = threading.Thread(target=wake_up.post)
    posting.start()
    assert wake_up.sleep(None)
    posting.join()


def test_sleep_ends_at_the_deadline(wake_up) -> None:
    deadline = soon(0.03)
    while wake_up.sleep(deadline):
        pass
    assert time.monotonic() >= deadline


#: A C library whose wall clock is set an hour forward and back at each look.
STEPPING = Path(__file__).parent / "stepping_clock.c"

SLEEPING = """
    import posix_ipc, resource, secrets, threading, time
    from refimpl.shm.names import object_name
    from refimpl.shm.semaphores import WakeUp

    first = time.time()
    assert any(abs(time.time() - first) > 3000 for _ in range(4)), "the clock does not step"
    semaphore = posix_ipc.Semaphore(object_name(secrets.token_hex(4), "1s"), posix_ipc.O_CREX)
    wake_up = WakeUp(semaphore)
    semaphore.unlink()
    for _ in range(20):
        began, turns, deadline = time.monotonic(), 0, time.monotonic() + 0.02
        while wake_up.sleep(deadline):
            turns += 1
        assert time.monotonic() >= deadline
        assert turns < 5, "it spins"
    threading.Timer(0.05, wake_up.post).start()
    assert wake_up.sleep(time.monotonic() + 60)
    print("slept")
"""


def test_a_wall_clock_that_is_set_makes_no_sleep_longer_or_shorter(tmp_path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("package gcc is not installed")
    library = tmp_path / "stepping.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, STEPPING, "-ldl"], check=True)
    command = [sys.executable, "-c", textwrap.dedent(SLEEPING)]
    done = subprocess.run(
        command, env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "slept\n", "")


def test_a_name_that_is_gone_is_said(semaphore) -> None:
    semaphore.unlink()
    with pytest.raises(FileNotFoundError):
        WakeUp(semaphore)


def test_any_deadline_will_do(wake_up) -> None:
    wake_up.post()
    assert wake_up.sleep(math.inf)


def test_signals_handler_runs_and_ends_the_sleep(wake_up) -> None:
    handled = []
    former = signal.signal(signal.SIGALRM, lambda *_: handled.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        while wake_up.sleep(None):
            pass
    finally:
        signal.signal(signal.SIGALRM, former)
    assert handled


def test_keyboard_interrupt_comes_out(wake_up) -> None:
    former = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            wake_up.sleep(soon())
    finally:
        signal.signal(signal.SIGALRM, former)


def test_post_too_many_is_no_error() -> None:
    name = object_name(secrets.token_hex(4), "1s")
    semaphore = posix_ipc.Semaphore(name, posix_ipc.O_CREX, initial_value=posix_ipc.SEMAPHORE_VALUE_MAX)
    waking = WakeUp(semaphore)
    semaphore.unlink()
    post(semaphore)
    assert semaphore.value == posix_ipc.SEMAPHORE_VALUE_MAX
    waking.drain()  # does not take for ever
