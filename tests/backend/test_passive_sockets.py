"""Bind, listen, accept and poll, over a real commands ring, by a guest that writes every byte itself."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct

import pytest

from refimpl.backend import Limits
from refimpl.testing import raw

EBADF, EEXIST, EINVAL = -9, -17, -22


def ref_of(ring) -> int:
    return ring.held[0].refs[0]


@pytest.mark.spec("BIND-1", "BIND-5", "BIND-6", "RAT-6")
def test_a_bind_takes_an_address_of_the_backends_host_and_one_in_use_is_refused(guest, server) -> None:
    guest.open_socket(1)
    answer = guest.ask(raw.bind_request, 1, raw.address("127.0.0.1", 0))
    assert (answer.ret, answer.id) == (0, 1)
    guest.open_socket(2)
    assert guest.ask(raw.bind_request, 2, raw.address(*server.getsockname())).ret == -98
    assert guest.ask(raw.bind_request, 2, raw.address("192.0.2.9", 0)).ret == -99


def backlog_at(address: tuple[str, int]) -> int:
    """The backlog of this process's socket that listens there, as the system has it."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.stat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as found:
                if found.family == socket.AF_INET and found.getsockname() == address:
                    *_, backlog = struct.unpack("8B6I", found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32))
                    return int(backlog)
    raise AssertionError(f"nobody listens at {address}")


@pytest.mark.spec("LISTEN-1", "LISTEN-3", "BIND-2")
@pytest.mark.erratum("E-BACKLOG")
@pytest.mark.security("SEC-B-24")
def test_listen_wants_a_bound_socket_and_takes_any_backlog_up_to_its_limit(machine) -> None:
    machine.serve(limits=Limits(backlog=5))
    guest = machine.guest()
    guest.open_socket(1)
    assert guest.ask(raw.listen_request, 1).ret == EINVAL
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    assert guest.ask(raw.bind_request, 1, raw.address(*address)).ret == 0
    for asked, given in ((2**32 - 1, 5), (3, 3)):
        answer = guest.ask(raw.listen_request, 1, asked)
        assert (answer.ret, answer.id) == (0, 1)
        assert backlog_at(address) == given
    assert guest.ask(raw.listen_request, 1, 0).ret == 0


@pytest.mark.spec("ACCEPT-6", "ACCEPT-7", "ACCEPT-8", "ACCEPT-14")
def test_accept_is_answered_when_a_connection_came_with_the_listeners_id(guest) -> None:
    address = guest.listening(1)
    waiting, ring = guest.accept(1, 2)
    assert guest.ask(raw.socket_request, 3).ret == 0
    assert not any(answer.req_id == waiting for answer in guest._early)
    with socket.create_connection(address) as client:
        answer = guest.await_response(waiting)
        assert (answer.ret, answer.id) == (0, 1)
        client.sendall(b"hello")
        assert guest.take(ring, 5) == b"hello"
        assert guest.ask(raw.release_request, 2).ret == 0
        assert client.recv(1) == b""


@pytest.mark.spec("ACCEPT-1", "ACCEPT-9", "ACCEPT-10", "ACCEPT-11")
@pytest.mark.erratum("E-ACC-CONC", "E-ACC-PREDATA")
def test_several_accepts_take_connections_in_the_order_they_came(guest) -> None:
    address = guest.listening(1)
    pending = [guest.accept(1, id) for id in (2, 3, 4)]
    for number, (waiting, ring) in enumerate(pending):
        with socket.create_connection(address) as client:
            client.sendall(b"%d" % number)
            assert guest.await_response(waiting).ret == 0
            assert guest.take(ring, 1) == b"%d" % number


@pytest.mark.spec("ACCEPT-12", "ACCEPT-15")
@pytest.mark.erratum("E-DUPID", "E-ACC-CONC")
@pytest.mark.security("SEC-B-6")
def test_an_id_in_use_and_one_accept_too_many_are_refused_at_once(machine) -> None:
    machine.serve(limits=Limits(pending_accepts=2))
    guest = machine.guest()
    guest.listening(1)
    assert guest.ask(raw.accept_request, 1, 1, 8, 2).ret == EEXIST
    guest.accept(1, 2)
    assert guest.ask(raw.accept_request, 1, 2, 8, 2).ret == EEXIST
    guest.accept(1, 3)
    assert guest.ask(raw.accept_request, 1, 4, 8, 2).ret == -4


@pytest.mark.spec("ACCEPT-15")
@pytest.mark.erratum("E-ACC-FAIL")
@pytest.mark.security("SEC-B-9", "SEC-B-22")
def test_an_accept_with_a_bad_ring_resets_its_connection_and_the_next_is_unaffected(guest) -> None:
    address = guest.listening(1)
    bad = guest.make_data_ring(ring_order=0)
    waiting = guest.send(raw.accept_request, 1, 2, ref_of(bad), bad.port)
    with socket.create_connection(address) as client:
        assert guest.await_response(waiting).ret == EINVAL
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    waiting, _ring = guest.accept(1, 2)
    with socket.create_connection(address):
        assert guest.await_response(waiting).ret == 0


@pytest.mark.spec("POLL-3", "POLL-5", "POLL-6")
@pytest.mark.erratum("E-POLL-SEM", "E-POLL-ACC", "E-POLL-ID")
def test_poll_is_answered_once_a_connection_is_queued_and_takes_nothing(guest) -> None:
    address = guest.listening(2**63 + 8)
    polling = guest.send(raw.poll_request, 2**63 + 8)
    assert guest.ask(raw.socket_request, 3).ret == 0
    assert not any(answer.req_id == polling for answer in guest._early)
    with socket.create_connection(address):
        answer = guest.await_response(polling)
        assert (answer.cmd, answer.ret, answer.id) == (raw.POLL, 0, 2**63 + 8)
        assert guest.ask(raw.poll_request, 2**63 + 8).ret == 0  # It is still there.
        waiting, _ring = guest.accept(2**63 + 8, 2)
        assert guest.await_response(waiting).ret == 0


@pytest.mark.erratum("E-POLL-ACC")
def test_an_accept_comes_before_a_poll(guest) -> None:
    address = guest.listening(1)
    polling = guest.send(raw.poll_request, 1)
    waiting, _ring = guest.accept(1, 2)
    assert guest.ask(raw.socket_request, 9).ret == 0  # The backend has taken both.
    with socket.create_connection(address):
        assert guest.await_response(waiting).ret == 0
        assert guest.ask(raw.socket_request, 3).ret == 0
        assert not any(answer.req_id == polling for answer in guest._early)
        with socket.create_connection(address):
            assert guest.await_response(polling).ret == 0


@pytest.mark.spec("RELEASE-1", "RELEASE-2", "RELEASE-11")
@pytest.mark.erratum("E-ACC-REL")
@pytest.mark.security("SEC-B-22")
def test_a_listeners_release_answers_what_waits_on_it_then_itself(machine, record) -> None:
    machine.serve(observer=record)
    guest = machine.guest()
    address = guest.listening(1)
    waiting, _ring = guest.accept(1, 2)
    polling = guest.send(raw.poll_request, 1)
    assert guest.ask(raw.release_request, 1).ret == 0
    assert [guest.await_response(each).ret for each in (waiting, polling)] == [EBADF, EBADF]
    assert "MapIndexesPage" not in record.of("step", guest.platform.domid)
    with socket.socket() as again:
        again.bind(address)
    assert guest.ask(raw.socket_request, 2).ret == 0  # The id that ACCEPT claimed is free.
