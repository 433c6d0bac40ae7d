"""The commands ring under a guest that writes what it likes into it."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refimpl.commands.ring import NOTICE_BYTE
from refimpl.testing import raw

CONNECTED, CLOSING = 4, 5


@pytest.mark.spec("RING-1", "RING-2", "RING-13", "STATE-7")
def test_thousands_of_commands_go_round_the_ring(guest) -> None:
    for number in range(0, 3200, 32):
        guest.push(
            *(
                raw.socket_request(n, n) if n % 2 == 0 else raw.release_request(n, n - 1)
                for n in range(number, number + 32)
            )
        )
        answers: list[raw.RawResponse] = []
        guest.await_turns_of_answers(answers, 32)
        assert [(a.req_id, a.ret) for a in answers] == [(n, 0) for n in range(number, number + 32)]


@pytest.mark.spec("RING-12", "RING-18")
def test_responses_notify_only_when_asked_to(guest) -> None:
    guest.commands["rsp_event"] = guest.commands["rsp_prod"] + 3
    guest.platform.fences.full()
    seen = guest.commands["rsp_prod"]
    for n in range(2):
        guest.push(raw.socket_request(n, n))
        while guest.commands["rsp_prod"] == seen + n:
            pass  # No event is due: look.
    assert all(port != guest.port for port in guest.platform.wait(0))
    guest.push(raw.socket_request(2, 2))
    fired: list[int] = []
    while guest.port not in fired:
        fired += guest.platform.wait(30)
    assert guest.commands["rsp_prod"] == seen + 3


@pytest.mark.security("SEC-B-1")
@pytest.mark.parametrize("ahead", [33, 2**31, 2**32 - 1])
def test_an_impossible_req_prod_closes_the_device_and_says_why(machine, ahead: int) -> None:
    guest = machine.guest()
    guest.commands["req_prod"] = guest.commands["req_prod"] + ahead
    guest.platform.fences.full()
    guest.notify()
    guest.await_state(CLOSING)
    error = machine.store.read(f"/local/domain/0/error/backend/pvcalls/{guest.platform.domid}/0/error")
    assert b"req_prod" in error
    assert machine.guest().ask(raw.socket_request, 1).ret == 0  # Another guest is served.


@pytest.mark.security("SEC-B-1")
def test_more_requests_than_answers_were_taken_is_impossible_too(guest) -> None:
    guest.listening(1)
    guest.push(*(raw.poll_request(n, 1) for n in range(32)))
    guest.platform.wait(0)
    guest.commands["req_prod"] = guest.commands["req_prod"] + 1
    guest.notify()
    guest.await_state(CLOSING)


@pytest.mark.security("SEC-B-3")
def test_the_backends_own_words_may_be_overwritten_at_will(guest) -> None:
    order = random.Random(3)
    for n in range(50):
        guest.commands["req_event"] = order.randrange(2**32)
        guest.push(raw.socket_request(n, n))
        guest.await_response(n)
    guest.commands["rsp_prod"] = 12345
    guest.push(raw.socket_request(99, 99))
    guest.await_true(lambda: guest.commands["rsp_prod"] == 51, "the backend's own rsp_prod")


@pytest.mark.spec("RING-17")
@pytest.mark.erratum("E-PADRSP", "E-RSPSIZE")
@pytest.mark.security("SEC-B-5")
def test_a_response_writes_its_24_bytes_and_no_more(guest) -> None:
    guest.commands.put(guest.commands["req_prod"], b"\xee" * 64)
    slot = guest.commands["req_prod"]
    guest.call(raw.socket_request(5, 2**64 - 1)[:32] + b"\xee" * 32)
    answer = guest.commands.slot(slot)
    assert answer[:24] == raw.response(5, raw.SOCKET, 0, 2**64 - 1)
    assert answer[24:32] == raw.socket_request(5, 2**64 - 1)[24:32]
    assert answer[32:] == b"\xee" * 32


@pytest.mark.erratum("E-EARLY-REQ")
def test_a_request_queued_before_the_backend_connected_is_answered(machine) -> None:
    machine.serve()
    guest = machine.add_guest()
    guest.push(raw.socket_request(9, 1), notify=False)
    guest.connect()
    assert guest.await_response(9).ret == 0


STREAM = st.lists(
    st.one_of(
        st.builds(lambda i: ("socket", i), st.integers(0, 3)),
        st.builds(lambda i: ("release", i), st.integers(0, 3)),
        st.builds(lambda i: ("bind", i), st.integers(0, 3)),
        st.builds(lambda i: ("listen", i), st.integers(0, 3)),
        st.builds(lambda i: ("poll", i), st.integers(0, 3)),
        st.builds(lambda i: ("accept", i), st.integers(0, 3)),
        st.builds(lambda b: ("bytes", b), st.binary(min_size=60, max_size=60)),
    ),
    max_size=31,
)


@pytest.mark.spec("RING-9", "RING-13")
@pytest.mark.security("SEC-B-4", "SEC-B-22")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STREAM)
def test_every_request_of_any_stream_gets_exactly_one_answer(guest, stream) -> None:
    """Whatever is asked, in whatever order; the releases at the end answer what still waits."""
    makers = {
        "socket": raw.socket_request,
        "release": raw.release_request,
        "bind": lambda r, i: raw.bind_request(r, i, raw.address("127.0.0.1", 0)),
        "listen": raw.listen_request,
        "poll": raw.poll_request,
        "accept": lambda r, i: raw.accept_request(r, i, i + 100, 0, 0),
    }
    for req_id, (kind, what) in enumerate(stream):
        guest.push(req_id.to_bytes(4, "little") + what if kind == "bytes" else makers[kind](req_id, what))
    answers: list[raw.RawResponse] = []
    ids = [what if kind != "bytes" else int.from_bytes(what[4:12], "little") for kind, what in stream]
    asked = len(stream)
    while len(answers) < asked:
        pending = set(range(len(stream))) - {answer.req_id for answer in answers}
        guest.await_turns_of_answers(answers, min(asked, len(answers) + 1), patience=200)
        stuck = set(range(len(stream))) - {answer.req_id for answer in answers}
        if stuck and stuck == pending:
            guest.push(raw.release_request(1000 + asked, ids[min(stuck)]))
            asked += 1
    for id in {*range(4), *ids}:
        assert guest.ask(raw.release_request, id).ret == 0
    got = sorted(answer.req_id for answer in answers if answer.req_id < 1000)
    assert got == list(range(len(stream)))


def test_frontend_that_left_a_notice_of_its_death_is_let_go_when_it_dies(machine, server) -> None:
    """On Xen the platform clears the byte and notifies; here the guest does it itself."""
    machine.serve()
    guest = machine.add_guest()
    guest.commands.memory[NOTICE_BYTE] = 1
    guest.connect()
    guest.connected(1, server.getsockname())
    peer, _ = server.accept()
    with peer:
        peer.settimeout(30)
        guest.notify()  # An event with nothing to do says nothing.
        guest.turn()
        assert int(guest.other_node("state")) == CONNECTED
        guest.commands.memory[NOTICE_BYTE] = 0
        guest.notify()
        assert peer.recv(1) == b""
    guest.await_state(CLOSING)
    error = machine.store.read(f"/local/domain/0/error/backend/pvcalls/{guest.platform.domid}/0/error")
    assert b"ended" in error


def test_frontend_that_left_no_notice_may_write_there_what_it_likes(guest) -> None:
    for value in (1, 0):
        guest.commands.memory[NOTICE_BYTE] = value
        guest.notify()
        guest.turn()
    assert int(guest.other_node("state")) == CONNECTED
