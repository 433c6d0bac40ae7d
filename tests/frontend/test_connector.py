"""The active side: one CONNECT in flight, whoever gives up waiting for it."""

from __future__ import annotations

import errno

import pytest

from refimpl.errors import GrantRefused
from refimpl.frontend import wait_writable
from refimpl.testing import raw

ADDRESS = ("192.0.2.1", 80)


def establish(pair, asked):
    """Answer a CONNECT as a backend does; return the data ring."""
    ring = pair.backend.map_data_ring(asked)
    pair.backend.answer(asked)
    return ring


@pytest.mark.spec("CONNECT-13", "CONNECT-14", "CONNECT-15", "FAMILY-6")
@pytest.mark.erratum("E-SOCKADDR", "E-FLAGS")
def test_connect_says_where_to_and_where_its_ring_is(pair, do):
    socket = pair.socket()
    connecting = do(socket.connect, ADDRESS)
    asked = pair.backend.await_request()
    assert (asked.cmd, asked.id) == (raw.CONNECT, socket.id)
    assert asked.raw[16:44] == raw.address(*ADDRESS)
    length, flags = (int.from_bytes(asked.raw[at : at + 4], "little") for at in (44, 48))
    assert (length, flags) == (16, 0)
    establish(pair, asked)
    connecting.result()


@pytest.mark.spec("CONNECT-2", "CONNECT-3", "CONNECT-4", "IDX-4")
def test_every_connection_has_a_ring_and_a_channel_of_its_own(pair):
    rings = [pair.connected()[1] for _ in range(3)]
    assert len({ring.port for ring in rings}) == 3
    refs = [ref for ring in rings for ref in ring.indexes.refs(2)]
    assert len(set(refs)) == len(refs)


@pytest.mark.spec("CONNECT-17")
@pytest.mark.parametrize(
    "ret, kind",
    [
        (-111, ConnectionRefusedError),
        (-110, TimeoutError),
        (-104, ConnectionResetError),
        (-103, ConnectionAbortedError),
        (-1, PermissionError),
        (-13, PermissionError),
        (-101, OSError),
        (-4000, OSError),
    ],
)
def test_failures_are_those_of_the_socket_module(pair, ret, kind):
    socket = pair.socket()
    with pytest.raises(kind) as refused:
        pair.answered(socket.connect, ADDRESS, ret=ret)
    assert refused.value.error_number == ret
    assert refused.value.errno == (-ret if ret != -4000 else errno.EIO)


@pytest.mark.erratum("E-CONN-SYNC")
@pytest.mark.parametrize("ret", [-115, -11])
def test_not_yet_is_no_answer(pair, ret):
    with pytest.raises(OSError) as refused:
        pair.answered(pair.socket().connect, ADDRESS, ret=ret)
    assert not isinstance(refused.value, BlockingIOError)
    assert (refused.value.errno, refused.value.error_number) == (errno.EIO, ret)


@pytest.mark.erratum("E-CONN-RETRY")
def test_after_a_failure_it_may_be_tried_again_and_nothing_of_the_first_is_left(pair, do):
    socket = pair.socket()
    connecting = do(socket.connect, ADDRESS)
    first = pair.backend.await_request()
    pair.backend.answer(first, -111)
    with pytest.raises(ConnectionRefusedError):
        connecting.result()
    with pytest.raises(GrantRefused):
        pair.backend.platform.map(pair.backend.frontend_id, [first.ref])
    connecting = do(socket.connect, ADDRESS)
    establish(pair, pair.backend.await_request())
    connecting.result()


def test_a_connect_given_up_goes_on_and_the_next_finds_it(pair, do):
    socket = pair.socket()
    socket.settimeout(0.01)
    with pytest.raises(TimeoutError):
        socket.connect(ADDRESS)
    asked = pair.backend.await_request()
    socket.settimeout(None)
    connecting = do(socket.connect, ADDRESS)
    establish(pair, asked)
    connecting.result()
    assert pair.no_request()
    with pytest.raises(OSError) as refused:
        socket.connect(ADDRESS)
    assert refused.value.errno == errno.EISCONN


def test_a_late_success_is_noticed_by_whatever_comes_first(pair):
    socket = pair.socket()
    socket.settimeout(0)
    with pytest.raises(BlockingIOError) as under_way:
        socket.connect(ADDRESS)
    assert under_way.value.errno == errno.EINPROGRESS
    with pytest.raises(OSError) as refused:
        socket.send(b"x")
    assert refused.value.errno == errno.ENOTCONN
    assert wait_writable([socket], 0) == []
    ring = establish(pair, pair.backend.await_request())
    assert wait_writable([socket]) == [socket]
    assert socket.send(b"x") == 1
    pair.backend.await_true(lambda: ring.indexes["out_prod"] == 1, "out_prod")


def test_a_late_failure_is_raised_once(pair):
    socket = pair.socket()
    socket.settimeout(0)
    with pytest.raises(BlockingIOError):
        socket.connect(ADDRESS)
    pair.backend.answer(pair.backend.await_request(), -111)
    assert wait_writable([socket]) == [socket]
    with pytest.raises(ConnectionRefusedError):
        socket.recv(1)
    with pytest.raises(OSError) as refused:
        socket.recv(1)
    assert refused.value.errno == errno.ENOTCONN


@pytest.mark.erratum("E-CONN-SYNC")
def test_a_socket_can_be_closed_while_it_connects(pair, do):
    socket = pair.socket()
    connecting = do(socket.connect, ADDRESS)
    asked = pair.backend.await_request()
    closing = do(socket.close)
    release = pair.backend.await_request()
    assert release.cmd == raw.RELEASE
    pair.backend.answer(asked, -9)
    pair.backend.answer(release)
    closing.result()
    with pytest.raises(OSError) as closed:
        connecting.result()
    assert closed.value.errno == errno.EBADF
    assert pair.frontend._device.live_rings() == []


@pytest.mark.erratum("E-CONN-SYNC")
def test_a_connect_that_wins_the_race_with_close(pair, do):
    socket = pair.socket()
    do(socket.connect, ADDRESS)
    asked = pair.backend.await_request()
    closing = do(socket.close)
    release = pair.backend.await_request()
    establish(pair, asked)
    pair.backend.answer(release)
    closing.result()
    assert pair.frontend._device.live_rings() == []


def test_two_threads_that_connect_one_socket_send_one_connect(pair, do):
    socket = pair.socket()
    both = [do(socket.connect, ADDRESS) for _ in range(2)]
    establish(pair, pair.backend.await_request())
    outcomes = []
    for each in both:
        try:
            outcomes.append(each.result())
        except OSError as error:
            outcomes.append(error.errno)
    assert sorted(outcomes, key=str) == [errno.EISCONN, None]
    assert pair.no_request()


def test_a_connect_that_finds_no_slot_in_time_leaves_nothing(pair, do):
    sockets = [pair.socket() for _ in range(31)]
    for each in sockets[:30]:
        do(each.connect, ADDRESS)
    pair.await_commands(30)
    sockets[30].settimeout(0.01)
    with pytest.raises(TimeoutError):
        sockets[30].connect(ADDRESS)
    assert pair.no_request()
    assert len(pair.frontend._device.live_rings()) == 30
    waiting = do(sockets[30].connect, ADDRESS)
    pair.answered(sockets[30].close)
    with pytest.raises((TimeoutError, OSError)):
        waiting.result()
    assert len(pair.frontend._device.live_rings()) == 30
