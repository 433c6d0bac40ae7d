"""Signals are heard whatever the main thread does, and by whichever thread the kernel gives them to."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest

from refimpl.cli.signals import calling


@pytest.fixture
def woken():
    """A descriptor for the callback to make readable, and an epoll that waits for it."""
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    with select.epoll() as epoll:
        epoll.register(descriptor, select.EPOLLIN)
        yield descriptor, epoll
    os.close(descriptor)


def test_a_signal_that_does_not_wake_the_main_thread_is_heard(woken):
    """As one that comes between the main thread's last look and its sleep."""
    descriptor, epoll = woken
    ended = threading.Event()
    other = threading.Thread(target=ended.wait, daemon=True)
    other.start()
    with calling(lambda: os.eventfd_write(descriptor, 1), [signal.SIGUSR1]):
        sender = threading.Thread(target=signal.pthread_kill, args=(other.ident, signal.SIGUSR1))
        sender.start()
        assert epoll.poll(30)
        sender.join()
    ended.set()
    other.join()


def test_an_inner_context_hears_and_the_outer_one_after_it(woken):
    descriptor, epoll = woken
    heard = []

    def hear(who):
        heard.append(who)
        os.eventfd_write(descriptor, 1)

    with calling(lambda: hear("outer"), [signal.SIGUSR1]):
        with calling(lambda: hear("inner"), [signal.SIGUSR1]):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert epoll.poll(30)
            os.eventfd_read(descriptor)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert epoll.poll(30)
    assert heard == ["inner", "outer"]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_forked_childs_signals_are_its_own(woken):
    descriptor, epoll = woken
    with calling(lambda: os.eventfd_write(descriptor, 1), [signal.SIGUSR1]):
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert not epoll.poll(0.05)
