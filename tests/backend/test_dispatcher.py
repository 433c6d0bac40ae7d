"""Commands carried out over a real commands ring, by a guest that writes every byte itself."""

from __future__ import annotations

import socket

import pytest

from refimpl.backend import Limits
from refimpl.testing import raw

EBADF, EEXIST, EMFILE, ENOTSUP = -9, -17, -24, -524


# Socket.


@pytest.mark.spec("SOCKET-1", "SOCKET-5", "SOCKET-6", "RAT-1")
@pytest.mark.parametrize("id", [0, 1, 2**63, 2**64 - 1])
def test_a_socket_of_any_id_is_made_and_its_id_echoed(guest, id: int) -> None:
    answer = guest.ask(raw.socket_request, id)
    assert (answer.cmd, answer.ret, answer.id) == (raw.SOCKET, 0, id)


@pytest.mark.spec("SOCKET-7", "FAMILY-2")
@pytest.mark.parametrize("arguments", [{"domain": 10}, {"type": 2}, {"protocol": 6}, {"domain": 2**32 - 1}])
def test_what_is_not_served_is_refused_with_the_documents_number(guest, arguments) -> None:
    assert guest.ask(raw.socket_request, 5, **arguments).ret == ENOTSUP
    assert guest.ask(raw.socket_request, 5).ret == 0


@pytest.mark.erratum("E-DUPID", "E-IDSPACE")
def test_an_id_in_use_is_refused_and_its_socket_untouched(guest, server) -> None:
    ring = guest.connected(7, server.getsockname())
    peer, _ = server.accept()
    with peer:
        assert guest.ask(raw.socket_request, 7).ret == EEXIST
        guest.put(ring, b"still here")
        assert peer.recv(20) == b"still here"


@pytest.mark.security("SEC-B-6")
def test_sockets_have_a_limit_and_a_released_one_makes_room(machine) -> None:
    machine.serve(limits=Limits(sockets=3))
    guest = machine.guest()
    assert [guest.ask(raw.socket_request, id).ret for id in range(5)] == [0, 0, 0, EMFILE, EMFILE]
    assert guest.ask(raw.release_request, 1).ret == 0
    assert guest.ask(raw.socket_request, 9).ret == 0


# Unknown commands and ids.


@pytest.mark.spec("RAT-3", "RING-16", "RING-9")
@pytest.mark.erratum("E-ENOTSUP", "E-PADRSP")
@pytest.mark.parametrize("cmd", [7, 255, 2**32 - 1])
def test_an_unknown_command_gets_one_answer_with_all_it_sent_echoed(guest, cmd: int) -> None:
    answer = guest.call(raw.request(cmd, 0xDEADBEEF, (2**64 - 1).to_bytes(8, "little")))
    assert (answer.req_id, answer.cmd, answer.ret, answer.id) == (0xDEADBEEF, cmd, ENOTSUP, 2**64 - 1)


@pytest.mark.spec("CONNECT-5", "BIND-6", "LISTEN-4", "ACCEPT-15")
@pytest.mark.erratum("E-UNKNOWN-ID")
@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (raw.connect_request, (raw.address("127.0.0.1", 9), 8, 2)),
        (raw.bind_request, (raw.address("127.0.0.1", 0),)),
        (raw.listen_request, ()),
        (raw.accept_request, (9, 8, 2)),
        (raw.poll_request, ()),
    ],
)
def test_an_unknown_id_is_ebadf_for_every_command_but_release(guest, make, arguments) -> None:
    assert guest.ask(make, 99, *arguments).ret == EBADF
    guest.open_socket(98)
    assert guest.ask(make, 98, *arguments).ret != EBADF


@pytest.mark.spec("RELEASE-11", "RELEASE-12")
@pytest.mark.erratum("E-REL-UNKNOWN", "E-REL-SOCKETONLY")
def test_release_answers_0_for_an_unknown_id_and_for_a_socket_only_made(guest) -> None:
    answer = guest.ask(raw.release_request, 99)
    assert (answer.ret, answer.id) == (0, 99)
    guest.open_socket(5)
    assert guest.ask(raw.release_request, 5).ret == 0
    assert guest.ask(raw.bind_request, 5, raw.address("127.0.0.1", 0)).ret == EBADF


@pytest.mark.spec("RING-7", "RING-9")
@pytest.mark.erratum("E-REQID", "E-INFLIGHT")
@pytest.mark.security("SEC-B-4")
def test_equal_req_ids_in_flight_are_each_answered(guest) -> None:
    address = guest.listening(1)
    guest.push(*(raw.poll_request(7, 1) for _ in range(16)))
    answers: list[raw.RawResponse] = []
    with socket.create_connection(address):
        guest.await_true(lambda: answers.extend(guest.take_responses()) or len(answers) >= 16, "16 answers")
    assert [(a.req_id, a.ret) for a in answers] == [(7, 0)] * 16
