"""What a program has: connections by name, servers, sums, and the steps as they happen."""

from __future__ import annotations

import multiprocessing
import socket

import pytest

from refimpl.errors import ForkedDomain
from refimpl.frontend import Event, Socket, names
from refimpl.frontend.observing import describe
from refimpl.testing import raw


@pytest.fixture
def two_addresses(monkeypatch):
    """The name ``two`` has two addresses."""

    def look_up(host, port, family=0, kind=0):
        assert host == "two"
        return [(family, kind, 6, "", (each, port)) for each in ("192.0.2.1", "192.0.2.2")]

    monkeypatch.setattr(names.socket, "getaddrinfo", look_up)


def test_each_address_of_a_name_is_tried(pair, do, two_addresses):
    connecting = do(pair.frontend.create_connection, ("two", 80), timeout=30.0)
    pair.backend.answer(pair.backend.await_request())
    asked = pair.backend.await_request()
    assert asked.raw[16:44] == raw.address("192.0.2.1", 80)
    pair.backend.answer(asked, -111)
    released = pair.backend.await_request()
    assert released.cmd == raw.RELEASE
    pair.backend.answer(released)
    pair.backend.answer(pair.backend.await_request())
    asked = pair.backend.await_request()
    assert asked.raw[16:44] == raw.address("192.0.2.2", 80)
    pair.backend.map_data_ring(asked)
    pair.backend.answer(asked)
    assert connecting.result().gettimeout() == 30.0


def test_when_no_address_answers_the_last_says_why(pair, do, two_addresses):
    connecting = do(pair.frontend.create_connection, ("two", 80))
    for ret in (0, -111, 0, 0, -113, 0):
        pair.backend.answer(pair.backend.await_request(), ret)
    with pytest.raises(OSError) as refused:
        connecting.result()
    assert refused.value.error_number == -113
    assert pair.frontend._device.live_rings() == []


@pytest.mark.spec("BIND-2")
def test_a_server_that_cannot_be_is_released(pair, do):
    serving = do(pair.frontend.create_server, ("", 80))
    commands = []
    for ret in (0, -13, 0):
        asked = pair.backend.await_request()
        commands.append(asked.cmd)
        pair.backend.answer(asked, ret)
    with pytest.raises(PermissionError):
        serving.result()
    assert commands == [raw.SOCKET, raw.BIND, raw.RELEASE]
    assert not pair.frontend._device.sockets


def test_a_socket_refused_is_not_kept(pair):
    with pytest.raises(OSError) as refused:
        pair.answered(pair.frontend.socket, ret=-24)
    assert refused.value.error_number == -24
    assert not pair.frontend._device.sockets


def test_sums_count_what_is_open_and_what_was_closed(pair, do):
    socket, ring = pair.connected()
    ring.produce("in", b"12345")
    pair.backend.notify(ring.port)
    assert socket.recv(5) == b"12345"
    socket.sendall(b"123")
    ring.consume("out")
    for _ in range(2):
        sums = pair.frontend.statistics
        assert (sums.bytes_received, sums.bytes_sent, sums.connections) == (5, 3, 1)
        assert sums.commands["CONNECT"] == 1
        assert sums.notifications_sent > 0
        if not socket._is_closed:
            pair.answered(socket.close)


def test_an_observer_sees_each_step_with_its_section(paired, do):
    seen = []
    pair = paired(observer=seen.append)
    socket, ring = pair.connected()
    ring.produce("in", b"x")
    pair.backend.notify(ring.port)
    socket.recv(1)
    socket.sendall(b"xyz")
    ring.consume("out")
    pair.answered(socket.close)
    sections = list(dict.fromkeys(event.section for event in seen))
    assert sections == [
        "Backend XenBus Nodes",
        "Frontend XenBus Nodes",
        "State Machine",
        "Socket",
        "Connect",
        "Workflow",
        "Release",
    ]
    assert any("CONNECT(id=0x1, addr=192.0.2.1:80, flags=0, ref=" in event.what for event in seen)
    assert Event("Connect", "-> CONNECT req_id=0 id=0x1 ret=0") in seen
    assert str(Event("Listen", "what")) == "[Listen] what"


def test_requests_are_described_with_all_they_say():
    from refimpl.commands.accept import AcceptRequest
    from refimpl.commands.release import ReleaseRequest

    assert describe(AcceptRequest.make(3, 1, 2, 8, 9)) == "ACCEPT(id=0x1, id_new=0x2, ref=8, evtchn=9) req_id=3"
    assert describe(ReleaseRequest.make(0, 7)) == "RELEASE(id=0x7, reuse=0) req_id=0"


def _in_a_child(frontend, connected, answers):
    """Everything a forked child may try."""
    calls = [
        frontend.socket,
        frontend.close,
        lambda: connected.recv(1),
        lambda: connected.send(b"x"),
        lambda: frontend.create_connection(("192.0.2.1", 80)),
        connected.close,
    ]
    said = []
    for call in calls:
        try:
            said.append(repr(call()))
        except ForkedDomain:
            said.append("ForkedDomain")
        except BaseException as error:
            said.append(repr(error))
    answers.send(said)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_owns_nothing_and_moves_nothing(pair, do):
    socket, ring = pair.connected()
    ring.produce("in", b"for the parent")
    opening = do(pair.frontend.socket)  # A thread that leads, and is not in the child.
    asked = pair.backend.await_request()
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(pair.frontend, socket, there))
    child.start()
    assert here.poll(30)
    assert here.recv() == ["ForkedDomain"] * 6
    child.join(30)
    assert (ring.indexes["in_cons"], ring.indexes["out_prod"]) == (0, 0)
    assert socket.recv(100) == b"for the parent"
    pair.backend.answer(asked)
    opening.result()


def test_sockets_say_what_they_are(pair):
    connected, _ = pair.connected()
    fresh, listener = pair.socket(), pair.listening()
    assert [repr(each).split()[-1] for each in (connected, fresh, listener)] == [
        "connected>",
        "connected>",
        "listening>",
    ]
    assert "not connected" in repr(fresh)
    pair.answered(fresh.close)
    assert "closed" in repr(fresh)


def test_all_sockets_are_closed_with_the_frontend(pair, do):
    opened = [pair.connected()[0], pair.listening(), pair.socket()]
    closing = do(pair.frontend.close)
    for _ in opened:
        asked = pair.backend.await_request()
        assert asked.cmd == raw.RELEASE
        pair.backend.answer(asked)
    pair.backend.await_state(5)
    pair.backend.set_state(5)
    closing.result()
    with pytest.raises(OSError, match="closed"):
        opened[0].recv(1)


def test_the_real_resolver_is_the_systems():
    assert names.socket is socket


def test_an_interrupted_connect_leaves_no_socket(pair, do, monkeypatch):
    def interrupted(self, address):
        raise KeyboardInterrupt

    monkeypatch.setattr(Socket, "connect_to", interrupted)
    connecting = do(pair.frontend.create_connection, ("192.0.2.1", 80))
    for command in (raw.SOCKET, raw.RELEASE):
        asked = pair.backend.await_request()
        assert asked.cmd == command
        pair.backend.answer(asked)
    with pytest.raises(KeyboardInterrupt):
        connecting.result()
    assert not pair.frontend._device.sockets
    assert pair.frontend.backend_id == 0
