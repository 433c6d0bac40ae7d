"""One domain's listening socket."""

from __future__ import annotations

import errno
import os
import socket
import stat

import pytest

from refimpl.shm.store.domains import Domains
from refimpl.shm.store.listener import Listener
from refimpl.shm.store.quotas import Quotas


@pytest.fixture
def listener(short_path):
    listener = Listener(Domains(Quotas()).get(1), str(short_path / "s"))
    yield listener
    if not listener.is_closed:
        listener.close()


def test_the_file_is_private_whatever_the_umask(short_path):
    old = os.umask(0)
    try:
        listener = Listener(Domains(Quotas()).get(1), str(short_path / "open"))
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(listener.path).st_mode) == 0o600
    listener.close()
    assert not os.path.exists(listener.path)


def test_accepting_when_nobody_is_there(listener):
    assert listener.accept() is None
    assert not listener.is_starved


class Failing:
    """A socket whose accept raises, in turn, and then has nobody."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def accept(self):
        number = self.numbers.pop(0) if self.numbers else errno.EAGAIN
        raise OSError(number, os.strerror(number))

    def close(self):
        pass


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_no_descriptor_left(listener, number):
    listener.socket.close()
    listener.socket = Failing(number)
    assert listener.accept() is None
    assert listener.is_starved


def test_a_client_that_gave_up_before_it_was_accepted(listener):
    listener.socket.close()
    listener.socket = Failing(errno.ECONNABORTED, errno.ECONNABORTED)
    assert listener.accept() is None
    assert not listener.is_starved


def test_other_failures_are_not_hidden(listener):
    listener.socket.close()
    listener.socket = Failing(errno.EINVAL)
    with pytest.raises(OSError, match="Invalid"):
        listener.accept()


def test_a_refused_address_leaves_no_socket(short_path):
    (short_path / "taken").write_text("")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="in use"):
        Listener(Domains(Quotas()).get(1), str(short_path / "taken"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_accepted_sockets_are_not_inherited(listener):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.path)
        with listener.accept() as accepted:
            assert not accepted.get_inheritable()
