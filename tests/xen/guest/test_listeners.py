"""Listen, accept, poll, in every order that Linux's drivers survive, whoever plays the two ends."""

from __future__ import annotations

import errno
import socket
import threading
import time
from contextlib import closing
from typing import Any

import pytest
from conftest import FRONT
from faults import STALL, WAKE_LOST, WRONG_QUEUE
from sockets import DOM0, FIRST_PORT, PATIENCE, Sockets, called_back, receive


def talk(accepted: Any, caller: socket.socket) -> None:
    assert receive(accepted, 5) == b"knock"
    accepted.sendall(b"who is there?")
    assert receive(caller, 13) == b"who is there?"


@pytest.mark.never("back:linux-stock", reason=STALL)
@pytest.mark.parametrize("address, number", [("0.0.0.0", 1), (DOM0, 5)])
def test_connection_from_outside(sockets: Sockets, address: str, number: int) -> None:
    """To any address of the backend's domain, and to a particular one."""
    with (
        closing(sockets.listen((address, FIRST_PORT + number))) as listener,
        called_back("127.0.0.1" if address == "0.0.0.0" else address, FIRST_PORT + number) as caller,
        closing(sockets.accept(listener)) as accepted,
    ):
        talk(accepted, caller)


@pytest.mark.never("back:linux-stock", reason=STALL)
def test_connection_over_a_network(sockets: Sockets) -> None:
    """From outside dom0: by way of this guest's own network interface."""
    with (
        closing(sockets.listen((DOM0, FIRST_PORT + 13))) as listener,
        socket.create_connection((DOM0, FIRST_PORT + 13), PATIENCE) as caller,
        closing(sockets.accept(listener)) as accepted,
    ):
        caller.sendall(b"knock")
        talk(accepted, caller)


@pytest.mark.spec("BIND-2", "ACCEPT-2", "ACCEPT-3", "ACCEPT-4")
@pytest.mark.never("back:linux-stock", reason=STALL)
def test_connection_of_our_own(sockets: Sockets) -> None:
    with closing(sockets.listen(("127.0.0.1", FIRST_PORT + 2))) as listener:
        for turn in range(3):
            with (
                closing(sockets.connect(("127.0.0.1", FIRST_PORT + 2))) as near,
                closing(sockets.accept(listener)) as far,
            ):
                near.sendall(b"there %d" % turn)
                assert receive(far, 7) == b"there %d" % turn
                far.sendall(b"and back")
                assert receive(near, 8) == b"and back"


@pytest.mark.spec("RELEASE-5")
def test_close_is_seen_by_the_peer(sockets: Sockets) -> None:
    with closing(sockets.listen(("127.0.0.1", FIRST_PORT + 3))) as listener:
        near = sockets.connect(("127.0.0.1", FIRST_PORT + 3))
        with closing(sockets.accept(listener)) as far:
            near.close()
            assert far.recv(1) == b""


@pytest.mark.never("back:linux-stock", reason=STALL)
def test_accept_that_waits_gets_the_connection_that_comes(sockets: Sockets) -> None:
    with closing(sockets.listen(("127.0.0.1", FIRST_PORT + 6))) as listener:
        came: list[Any] = []
        waiting = threading.Thread(target=lambda: came.append(sockets.accept(listener)))
        waiting.start()
        with called_back("127.0.0.1", FIRST_PORT + 6) as caller:
            waiting.join(2 * PATIENCE)
            with closing(came.pop()) as accepted:
                talk(accepted, caller)


@pytest.mark.never("back:linux-stock", reason=STALL)
def test_accept_that_does_not_wait(sockets: Sockets) -> None:
    """It says that nobody is there, again and again; what it asked for is what a later one gets."""
    with closing(sockets.listen(("127.0.0.1", FIRST_PORT + 7))) as listener:
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                sockets.try_accept(listener)
        with called_back("127.0.0.1", FIRST_PORT + 7) as caller, closing(until_accepted(sockets, listener)) as accepted:
            talk(accepted, caller)


def until_accepted(sockets: Sockets, listener: Any) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return sockets.try_accept(listener)
        except BlockingIOError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.fault_of("front:linux", reason=WRONG_QUEUE)
def test_poll_after_an_accept_that_did_not_wait(sockets: Sockets) -> None:
    with closing(sockets.listen(("127.0.0.1", FIRST_PORT + 8))) as listener:
        with pytest.raises(BlockingIOError):
            sockets.try_accept(listener)
        coming = threading.Timer(0.3, lambda: callers.append(called_back("127.0.0.1", FIRST_PORT + 8)))
        callers: list[socket.socket] = []
        coming.start()
        was_readable = sockets.is_readable(listener, 3)
        with closing(until_accepted(sockets, listener)) as accepted:
            coming.join()
            assert receive(accepted, 5) == b"knock"
        callers.pop().close()
        assert was_readable


@pytest.mark.spec("POLL-1", "POLL-3")
@pytest.mark.fault_of("front:linux", reason=WAKE_LOST, always=False)
def test_poll_tells_each_time_of_a_connection_that_is_there(sockets: Sockets) -> None:
    with closing(sockets.listen(("127.0.0.1", FIRST_PORT + 9))) as listener:
        for _ in range(20 if FRONT == "refimpl" else 100):  # Seen 3 times in about 40 accepts.
            with closing(sockets.connect(("127.0.0.1", FIRST_PORT + 9))):
                was_readable = sockets.is_readable(listener, 2)
                sockets.accept(listener).close()
            assert was_readable


def test_release_with_a_poll_pending(sockets: Sockets) -> None:
    for _ in range(3):
        with closing(sockets.listen(("127.0.0.1", FIRST_PORT + 10))) as listener:
            assert not sockets.is_readable(listener, 0.05)


@pytest.mark.never("front:linux", "back:linux", reason="it oopses the kernel: test_pending_accept.py, in its own boot")
def test_release_with_an_accept_that_found_nobody(sockets: Sockets) -> None:
    for _ in range(3):
        with (
            closing(sockets.listen(("127.0.0.1", FIRST_PORT + 11))) as listener,
            pytest.raises(BlockingIOError),
        ):
            sockets.try_accept(listener)


@pytest.mark.only("front:refimpl")
@pytest.mark.erratum("E-ACC-REL")
def test_close_of_a_listener_that_another_thread_waits_on(sockets: Sockets) -> None:
    """Linux's backend would not survive it with Linux's frontend: refimpl's asks by POLL before it sends ACCEPT."""
    for _ in range(3):
        listener = sockets.listen(("127.0.0.1", FIRST_PORT + 12))
        ended: list[OSError] = []
        waiting = threading.Thread(target=_accept_until_closed, args=(sockets, listener, ended))
        waiting.start()
        assert not sockets.is_readable(listener, 0.1)  # By when the POLL is there.
        listener.close()
        waiting.join(PATIENCE)
        assert ended.pop().errno == errno.EBADF


def _accept_until_closed(sockets: Sockets, listener: Any, ended: list[OSError]) -> None:
    try:
        sockets.accept(listener)
    except OSError as error:
        ended.append(error)
