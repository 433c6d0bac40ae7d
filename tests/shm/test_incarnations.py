"""An incarnation as the hypervisor has it."""

from __future__ import annotations

import os
import secrets

import posix_ipc
import pytest

from refimpl.shm.incarnations import Incarnation, segment_names


@pytest.fixture
def run_id() -> str:
    return secrets.token_hex(4)


def test_its_death_is_its_processs(run_id, process) -> None:
    domain = Incarnation(3, 5, os.pidfd_open(process.pid), run_id)
    assert not domain.is_dead
    process.kill()
    assert domain.is_dead
    domain.close()


def test_closing_removes_every_name_it_can_have(run_id, names) -> None:
    domain = Incarnation(3, 5, os.pidfd_open(os.getpid()), run_id)
    for name in segment_names(run_id, 5):
        posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=4096).close_fd()
    assert len(names(run_id)) == 3
    domain.close()
    assert names(run_id) == []


def test_closing_without_its_names_is_no_error(run_id, names) -> None:
    domain = Incarnation(3, 5, os.pidfd_open(os.getpid()), run_id)
    posix_ipc.unlink_semaphore(domain.semaphore_name)
    domain.close()
    assert names(run_id) == []


def test_wake_is_a_post(run_id) -> None:
    domain = Incarnation(3, 5, os.pidfd_open(os.getpid()), run_id)
    semaphore = posix_ipc.Semaphore(domain.semaphore_name)
    domain.wake()
    assert semaphore.value == 1
    semaphore.close()
    domain.close()


def test_wake_of_a_selectable_domain_is_a_post_of_its_eventfd(run_id, names) -> None:
    domain = Incarnation(3, 5, os.pidfd_open(os.getpid()), run_id, selectable=True)
    assert domain.semaphore_name is None
    assert names(run_id) == []
    domain.wake()
    assert os.eventfd_read(domain.eventfds[0]) == 1
    domain.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.eventfd_read(domain.eventfds[0])
