"""Commands in flight: matched by our own table, in any order, never more than the ring holds."""

from __future__ import annotations

import threading

import pytest

from refimpl.errors import DeviceGone, PeerViolation
from refimpl.testing import raw
from refimpl.testing.hostile import CLOSING

ADDRESS = ("192.0.2.1", 80)


@pytest.mark.spec("RING-7", "RING-8")
@pytest.mark.erratum("E-ORDER", "E-REQID")
def test_answers_may_come_in_any_order(pair, do):
    opening = [do(pair.frontend.socket) for _ in range(8)]
    asked = pair.await_commands(8)
    assert len({each.req_id for each in asked}) == 8
    assert all(each.req_id < 32 for each in asked)
    for each in reversed(asked):
        pair.backend.answer(each, 0 if each.id % 2 else -24)
    outcomes = []
    for each in opening:
        try:
            outcomes.append(each.result().id % 2)
        except OSError as error:
            outcomes.append(error.error_number)
    assert sorted(outcomes) == [-24] * 4 + [1] * 4


@pytest.mark.spec("SOCKET-2", "SOCKET-4")
def test_every_socket_has_an_id_of_its_own(pair):
    ids = {pair.socket().id for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.security("SEC-F-3")
@pytest.mark.erratum("E-POLL-ID")
@pytest.mark.parametrize(
    "other",
    [
        {"req_id": 0xFFFFFFFF},
        {"req_id": 32},
        {"req_id": 31},
        {"cmd": raw.POLL},
        {"cmd": 7},
        {"id": 77},
        {"id": 2**64 - 1},
    ],
    ids=str,
)
def test_an_answer_to_nothing_we_asked_ends_the_device(pair, do, other):
    opening = do(pair.frontend.socket)
    pair.backend.answer(pair.backend.await_request(), **other)
    with pytest.raises(DeviceGone) as gone:
        opening.result()
    assert isinstance(gone.value.__cause__, PeerViolation)
    assert gone.value.__cause__.requirement == "SEC-F-3"
    pair.backend.await_state(CLOSING)
    assert b"SEC-F-3" in pair.machine.zero.store.read(
        f"/local/domain/{pair.machine.guest.domid}/error/device/pvcalls/0/error"
    )


@pytest.mark.security("SEC-F-3")
def test_a_second_answer_to_one_request_ends_the_device(pair, do):
    opening = do(pair.frontend.socket)
    asked = pair.backend.await_request()
    again = raw.response(asked.req_id, asked.cmd, 0, asked.id)
    pair.backend.respond(again, notify=False)
    opening.result()
    second = do(pair.frontend.socket)
    pair.backend.await_request()
    pair.backend.respond(again)
    with pytest.raises(DeviceGone):
        second.result()


@pytest.mark.security("SEC-F-1")
@pytest.mark.parametrize("rsp_prod", [2, 33, 2**31, 2**32 - 1])
def test_more_answers_than_requests_end_the_device(pair, do, rsp_prod):
    opening = do(pair.frontend.socket)
    pair.backend.await_request()
    pair.backend.commands["rsp_prod"] = rsp_prod
    pair.backend.notify()
    with pytest.raises(DeviceGone) as gone:
        opening.result()
    assert gone.value.__cause__.requirement == "SEC-F-1"


@pytest.mark.security("SEC-F-4")
@pytest.mark.parametrize("ret", [1, 111, 2**31 - 1, -4096, -(2**31)])
def test_a_ret_that_is_no_error_number_is_EIO(pair, ret):
    with pytest.raises(OSError, match="EIO") as refused:
        pair.answered(pair.frontend.socket, ret=ret)
    assert refused.value.error_number == -5
    assert pair.frontend.is_open


@pytest.mark.security("SEC-F-16")
@pytest.mark.erratum("E-INFLIGHT")
def test_thirty_connects_under_way_leave_room_to_release(pair, do):
    sockets = [pair.socket() for _ in range(31)]
    connecting = [do(each.connect, ADDRESS) for each in sockets]
    asked = pair.await_commands(30)
    assert {each.cmd for each in asked} == {raw.CONNECT}
    waiting = [each for each in sockets if each.id not in {one.id for one in asked}]
    # All are in flight but one, which waits its turn, and RELEASE still goes through.
    victim = next(each for each in sockets if each.id == asked[0].id)
    closing = do(victim.close)
    release = pair.backend.await_request()
    assert (release.cmd, release.id) == (raw.RELEASE, victim.id)
    pair.backend.answer(asked[0], -9)
    pair.backend.answer(release)
    closing.result()
    last = pair.backend.await_request()
    assert (last.cmd, last.id) == (raw.CONNECT, waiting[0].id)
    for each in [*asked[1:], last]:
        pair.backend.answer(each, -111)
    for socket, each in zip(sockets, connecting, strict=True):
        with pytest.raises(OSError, match="closed" if socket is victim else "ECONNREFUSED"):
            each.result()


@pytest.mark.security("SEC-F-16")
@pytest.mark.erratum("E-INFLIGHT")
def test_thirty_accepts_that_nobody_answers_leave_room_to_release(pair, do):
    listeners = [pair.listening() for _ in range(31)]
    accepting = [do(each.accept) for each in listeners]
    asked = pair.await_commands(30)
    assert {each.cmd for each in asked} == {raw.ACCEPT}
    victim = next(each for each in listeners if each.id == asked[0].id)
    closing = do(victim.close)
    release = pair.backend.await_request()
    assert (release.cmd, release.id) == (raw.RELEASE, victim.id)
    pair.backend.answer(asked[0], -9)
    pair.backend.answer(release)
    closing.result()
    pair.go_away()
    for each in accepting:
        with pytest.raises(OSError):
            each.result()


def test_a_full_ring_is_waited_for(pair, do):
    opening = [do(pair.frontend.socket) for _ in range(40)]
    for _ in range(40):
        pair.backend.answer(pair.backend.await_request())
    assert len({each.result().id for each in opening}) == 40


@pytest.mark.security("SEC-F-10")
def test_a_silent_backend_is_taken_for_dead(paired):
    pair = paired(timeout=0.2)
    with pytest.raises(DeviceGone, match="no answer to SOCKET"):
        pair.frontend.socket()
    assert not pair.frontend.is_open
    with pytest.raises(DeviceGone):
        pair.frontend.socket()


@pytest.mark.security("SEC-F-10")
@pytest.mark.erratum("E-ORDER")
def test_a_connect_under_way_excuses_silence(paired, do, monkeypatch):
    pair = paired(timeout=0.2)
    socket = pair.socket()
    connecting = do(socket.connect, ADDRESS)
    connect = pair.backend.await_request()
    opening = do(pair.frontend.socket)
    asked = pair.backend.await_request()
    assert not threading.Event().wait(0.5)
    assert not opening.is_done
    pair.backend.answer(connect, -110)
    pair.backend.answer(asked)
    opening.result()
    with pytest.raises(TimeoutError) as refused:
        connecting.result()
    assert refused.value.error_number == -110


@pytest.mark.security("SEC-F-10")
@pytest.mark.erratum("E-SENDCLOSE")
def test_output_that_is_not_taken_excuses_a_release_that_takes_its_time(paired, do):
    pair = paired(timeout=0.2)
    socket, ring = pair.connected()
    socket.sendall(b"a slow peer's")
    closing = do(socket.close, 0.05)
    release = pair.backend.await_request()
    for _ in range(10):  # A second in all, and each tenth of it within the patience.
        ring.indexes["out_cons"] = ring.indexes["out_cons"] + 1
        assert not threading.Event().wait(0.1)
    assert not closing.is_done
    pair.backend.answer(release)
    closing.result()
    assert pair.frontend.is_open


@pytest.mark.security("SEC-F-10")
@pytest.mark.erratum("E-SENDCLOSE")
def test_output_that_stays_where_it_is_excuses_nobody(paired):
    pair = paired(timeout=0.2)
    socket, _ring = pair.connected()
    socket.sendall(b"never taken")
    socket.close(0.05)
    assert not pair.frontend.is_open


@pytest.mark.erratum("E-PENDING-CLOSE", "E-BCLOSE")
def test_the_backend_closing_ends_every_call_that_waits(pair, do):
    listener, socket = pair.listening(), pair.socket()
    connected, _ring = pair.connected()
    waiting = [do(listener.accept), do(socket.connect, ADDRESS), do(connected.recv, 1)]
    pair.await_commands(2)
    waiting.append(do(pair.frontend.socket))
    pair.backend.await_request()
    pair.go_away()
    for each in waiting:
        with pytest.raises(DeviceGone, match="the backend closed"):
            each.result()
    listener.close()
    socket.close()
    connected.close()
