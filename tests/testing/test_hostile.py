"""The hostile peers behave when they are left to, write any byte when they are not, and meet the real ends."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from refimpl.backend import Backend, Policy, Settings
from refimpl.commands.accept import AcceptRequest
from refimpl.commands.bind import BindRequest
from refimpl.commands.connect import ConnectRequest
from refimpl.commands.listen import ListenRequest
from refimpl.commands.poll import PollRequest
from refimpl.commands.release import ReleaseRequest
from refimpl.commands.socket import SocketRequest
from refimpl.errors import GrantRefused
from refimpl.frontend import Frontend
from refimpl.platform import Platform
from refimpl.testing import HostileBackend, HostileFrontend, raw
from refimpl.testing.pair import shm_domains

PATIENCE = 30.0


@pytest.fixture
def domains() -> Iterator[tuple[Platform, Platform]]:
    """Domain 0 and a guest with a device, neither of whose ends is there."""
    with shm_domains() as both:
        yield both


@pytest.fixture
def ends(domains) -> Iterator[tuple[HostileFrontend, HostileBackend]]:
    """Both hostile, shaken hands."""
    host, guest = domains
    with HostileBackend(host, guest.domid) as backend, HostileFrontend(guest) as frontend:
        backend.publish()
        connecting = threading.Thread(target=frontend.connect)
        connecting.start()
        backend.connect()
        connecting.join(PATIENCE)
        yield frontend, backend


def test_a_command_and_its_response_cross(ends) -> None:
    frontend, backend = ends
    frontend.push(raw.socket_request(5, 2**63, protocol=7))
    asked = backend.await_request()
    assert (asked.req_id, asked.cmd, asked.id) == (5, raw.SOCKET, 2**63)
    assert struct.unpack_from("<III", asked.raw, 16) == (2, 1, 7)
    backend.answer(asked, ret=-97)
    answer = frontend.await_response(5)
    assert (answer.req_id, answer.cmd, answer.ret, answer.pad, answer.id) == (5, raw.SOCKET, -97, 0, 2**63)


def test_responses_are_kept_for_whoever_asks_for_them(ends) -> None:
    frontend, backend = ends
    for turn in range(40):
        slots = [raw.poll_request(turn * 20 + n, n) for n in range(20)]
        frontend.push(*slots)
        asked = []
        while len(asked) < 20:
            asked += [backend.await_request(), *backend.take_requests()]
        for each in reversed(asked):
            backend.answer(each, ret=-each.id)
        assert [frontend.await_response(turn * 20 + n).ret for n in range(20)] == [-n for n in range(20)]


@pytest.mark.parametrize("order", [1, 3])
def test_bytes_cross_a_data_ring_around_its_border(ends, order) -> None:
    frontend, backend = ends
    ours = frontend.make_data_ring(order)
    frontend.push(raw.connect_request(1, 9, raw.address("192.0.2.1", 80), ours.ref, ours.port))
    theirs = backend.map_data_ring(backend.await_request())
    assert ours.half_bytes == theirs.half_bytes == (1 << order) * 4096 // 2
    for half, producer, consumer in (("out", ours, theirs), ("in", theirs, ours)):
        for index in (0, ours.half_bytes - 3, 2**31 - 4, 2**32 - 4):
            producer.indexes[f"{half}_prod"] = index
            consumer.indexes[f"{half}_cons"] = index
            producer.produce(half, b"from end to end")
            assert consumer.indexes[f"{half}_prod"] == (index + 15) % 2**32
            assert consumer.consume(half) == b"from end to end"
            assert producer.indexes[f"{half}_cons"] == (index + 15) % 2**32
    theirs.indexes["in_error"] = -107
    assert ours.indexes.error("in_error") == -107
    frontend.notify(ours.port)
    backend.await_true(lambda: True, "nothing")


@pytest.mark.parametrize("name", raw.COMMANDS_WORDS)
def test_any_word_of_the_commands_page_takes_any_value(ends, name) -> None:
    frontend, backend = ends
    for value in (0, 33, 2**31, 2**32 - 1):
        frontend.commands[name] = value
        assert backend.commands[name] == value
        assert backend.commands.word(raw.COMMANDS_WORDS[name]) == value
    assert f"{name}=0xffffffff" in str(backend.commands)


def test_wild_index_of_the_other_end_is_told_and_not_followed(ends) -> None:
    frontend, backend = ends
    backend.commands["rsp_prod"] = 2**31
    frontend.commands["req_prod"] = 2**32 - 1
    with pytest.raises(AssertionError, match="wild"):
        frontend.take_responses()
    with pytest.raises(AssertionError, match="wild"):
        backend.take_requests()


def test_indexes_page_may_say_anything(ends) -> None:
    frontend, backend = ends
    ring = frontend.make_data_ring(
        2, ring_order=31, refs=lambda data, page: [data[3], data[3], page, 2**32 - 1, *range(2000)]
    )
    frontend.push(raw.accept_request(1, 2, 3, ring.ref, 12345))
    asked = backend.await_request()
    assert (asked.id, asked.ref, asked.evtchn) == (2, ring.ref, 12345)
    page = raw.IndexesPage(backend.platform.map(frontend.platform.domid, [asked.ref]).memory)
    assert page["ring_order"] == 31
    data = ring.held[1].refs
    assert page.refs(6) == [data[3], data[3], ring.ref, 2**32 - 1, 0, 1]
    with pytest.raises(GrantRefused):
        backend.map_data_ring(asked, order=2)
    page.release()


def test_nodes_and_states_may_say_anything(ends) -> None:
    frontend, backend = ends
    for value in (b"", b"\0", b" 7", b"4294967296", b"\xff" * 40):
        frontend.set_state(value)
        frontend.write_node("ring-ref", value)
        assert backend.other_node("ring-ref") == value
    frontend.remove_node("state")
    assert backend.await_state() == 6


def test_what_does_not_come_is_an_assertion_error(domains) -> None:
    host, guest = domains
    with HostileBackend(host, guest.domid, patience=0.05) as backend, HostileFrontend(guest, patience=0.05) as frontend:
        with pytest.raises(AssertionError, match="no state"):
            backend.connect()
        with pytest.raises(AssertionError, match="no response to request 3"):
            frontend.await_response(3)


def test_closing_gives_everything_back(domains) -> None:
    _host, guest = domains
    for _ in range(500):  # of pages of order 3: more than the arena has
        with HostileFrontend(guest) as frontend:
            frontend.make_data_ring(3)


ADDRESS = raw.address("198.51.100.7", 4711)


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (raw.socket_request(1, 2**64 - 1, 2, 1, 6), SocketRequest(1, 0, 2**64 - 1, 2, 1, 6)),
        (
            raw.connect_request(2, 3, ADDRESS, 4, 5, 16, 6),
            ConnectRequest(2, 1, 3, ADDRESS, 16, 6, 4, 5),
        ),
        (raw.release_request(3, 4, 1), ReleaseRequest(3, 2, 4, 1)),
        (raw.bind_request(4, 5, ADDRESS, 28), BindRequest(4, 3, 5, ADDRESS, 28)),
        (raw.listen_request(5, 6, 2**32 - 1), ListenRequest(5, 4, 6, 2**32 - 1)),
        (raw.accept_request(6, 7, 8, 9, 10), AcceptRequest(6, 5, 7, 8, 9, 10)),
        (raw.poll_request(7, 8), PollRequest(7, 6, 8)),
    ],
    ids=["socket", "connect", "release", "bind", "listen", "accept", "poll"],
)
def test_raw_requests_and_the_package_agree(own, theirs) -> None:
    assert own == theirs.to_bytes().ljust(64, b"\0")


def test_raw_frontend_meets_the_real_backend(domains) -> None:
    host, guest = domains
    backend = Backend(host, Settings(policy=Policy(allow_everything=True)))
    backend.start()
    try:
        with HostileFrontend(guest) as frontend, socket.create_server(("127.0.0.1", 0)) as server:
            frontend.connect()
            assert frontend.call(raw.socket_request(1, 7)).ret == 0
            ring = frontend.make_data_ring(1)
            address = raw.address(*server.getsockname())
            frontend.push(raw.connect_request(2, 7, address, ring.ref, ring.port))
            with server.accept()[0] as peer:
                assert frontend.await_response(2).ret == 0
                ring.produce("out", b"ping")
                frontend.notify(ring.port)
                assert peer.recv(4) == b"ping"
                peer.sendall(b"pong")
                frontend.await_true(lambda: ring.indexes["in_prod"] == 4, "bytes in the ring")
                assert ring.consume("in") == b"pong"
            assert frontend.call(raw.request(99, 3)).ret == -524
            assert frontend.call(raw.release_request(4, 7)).ret == 0
    finally:
        backend.stop()


def test_raw_backend_meets_the_real_frontend(domains) -> None:
    host, guest = domains
    with HostileBackend(host, guest.domid) as backend:
        backend.publish({"max-page-order": 1})
        results: list[object] = []

        def use_frontend() -> None:
            with Frontend.open(guest, timeout=PATIENCE) as frontend, frontend.socket() as made:
                made.settimeout(PATIENCE)
                made.connect(("192.0.2.1", 80))
                made.sendall(b"ping")
                results.append(made.recv(100))

        using = threading.Thread(target=use_frontend)
        using.start()
        backend.connect()
        asked = backend.await_request()
        assert asked.cmd == raw.SOCKET
        backend.answer(asked)
        asked = backend.await_request()
        assert asked.cmd == raw.CONNECT
        ring = backend.map_data_ring(asked)
        assert ring.indexes["ring_order"] == 1
        backend.answer(asked)
        backend.await_true(lambda: ring.indexes["out_prod"] == 4, "bytes in the ring")
        assert ring.consume("out") == b"ping"
        ring.produce("in", b"pong")
        host.fences.full()
        backend.notify(ring.port)
        asked = backend.await_request()
        assert asked.cmd == raw.RELEASE
        backend.answer(asked)
        backend.await_state(5, 6)
        backend.set_state(5)
        backend.await_state(6)
        backend.set_state(6)
        using.join(PATIENCE)
        assert results == [b"pong"]
