"""Sleeping on an eventfd."""

from __future__ import annotations

import os
import threading
import time

import pytest

from refimpl.ready import is_readable
from refimpl.shm.eventfds import Eventfd, EventfdWakeUp

PATIENCE = 30.0


@pytest.fixture
def wake_up() -> EventfdWakeUp:
    return EventfdWakeUp(Eventfd())


def test_it_is_readable_from_the_post_to_the_drain(wake_up) -> None:
    assert not is_readable(wake_up, 0)
    wake_up.drain()
    for _ in range(100):
        wake_up.post()
    assert is_readable(wake_up, 0)
    wake_up.drain()
    assert not is_readable(wake_up, 0)


def test_sleep_ends_with_a_post_and_takes_it(wake_up) -> None:
    wake_up.post()
    assert wake_up.sleep(time.monotonic() + PATIENCE)
    assert not is_readable(wake_up, 0)
    posting = threading.Thread(target=wake_up.post)
    posting.start()
    assert wake_up.sleep(None)
    posting.join()


def test_sleep_ends_at_the_deadline(wake_up) -> None:
    deadline = time.monotonic() + 0.03
    while wake_up.sleep(deadline):
        pass
    assert time.monotonic() >= deadline


def test_post_too_many_is_no_error(wake_up) -> None:
    os.eventfd_write(wake_up.fileno(), 2**64 - 2)
    wake_up.post()
    wake_up.drain()
    assert not is_readable(wake_up, 0)


def test_a_peers_copy_posts_the_same_one(wake_up) -> None:
    peers = Eventfd(os.dup(wake_up.fileno()))
    peers.release()
    peers.close()
    assert is_readable(wake_up, 0)


def test_its_descriptor_goes_with_it() -> None:
    wake_up = EventfdWakeUp(Eventfd())
    descriptor = wake_up.fileno()
    del wake_up
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
