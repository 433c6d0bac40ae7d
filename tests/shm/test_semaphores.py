"""Sleeping on a semaphore."""

from __future__ import annotations

import secrets
import signal
import threading
import time

import posix_ipc
import pytest

from refimpl.shm.names import object_name
from refimpl.shm.semaphores import WakeUp, post

PATIENCE = 30.0


@pytest.fixture
def semaphore():
    made = posix_ipc.Semaphore(object_name(secrets.token_hex(4), "1s"), posix_ipc.O_CREX)
    made.unlink()
    return made


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


def test_no_acquire_trusts_the_wall_clock_for_long(semaphore, monkeypatch) -> None:
    given = []

    class Recording:
        value = 0
        release = semaphore.release
        close = semaphore.close

        def acquire(self, timeout: float | None = None) -> None:
            given.append(timeout)
            raise posix_ipc.BusyError

    assert WakeUp(Recording()).sleep(soon(3600))
    assert given == [1.0]


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
    semaphore.unlink()
    post(semaphore)
    assert semaphore.value == posix_ipc.SEMAPHORE_VALUE_MAX
    WakeUp(semaphore).drain()  # does not take for ever
