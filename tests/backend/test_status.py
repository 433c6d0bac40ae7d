"""The status socket: what it says, and that asking hurts nobody."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from refimpl.backend import Backend, Limits, Policy, Settings
from refimpl.backend.loop import EventLoop
from refimpl.backend.status import LINES_A_TURN, MOST_CLIENTS, StatusServer, ask, is_left_over

from .conftest import PATIENCE, Machine


@pytest.fixture
def path(machine: Machine) -> str:
    return str(Path(machine.platform_directory, "0.status"))


def serve(machine: Machine, path: str, limits: Limits) -> None:
    machine.backend = Backend(machine.platform, Settings(policy=Policy(allow_everything=True), limits=limits))
    machine.backend.serve_status(path)
    machine.backend.start()
    machine.at_end(machine.backend.stop)


def test_it_shows_guests_and_sockets_with_bytes_ring_fill_and_notifications(machine, server, path: str) -> None:
    serve(machine, path, Limits(sockets=7))
    guest = machine.guest()
    ring = guest.connected(1, server.getsockname(), order=1)
    connection, _ = server.accept()
    guest.listening(2)
    with connection:
        guest.put(ring, b"12345")
        assert connection.recv(5) == b"12345"
        connection.sendall(b"123")
        guest.await_turns(lambda: ring.indexes["in_prod"] == 3)
        whole, of_guest, one, two = ask(path)
        assert one["remote"] == "{}:{}".format(*server.getsockname())
    assert (whole["kind"], whole["pid"]) == ("backend", os.getpid())
    assert (of_guest["state"], of_guest["sockets"], of_guest["most_sockets"]) == ("CONNECTED", 2, 7)
    assert (of_guest["listeners"], of_guest["bytes_in"], of_guest["bytes_out"]) == (1, 3, 5)
    assert (one["id"], one["state"], one["bytes_in"], one["bytes_out"]) == (1, "CONNECTED", 3, 5)
    assert (one["in_used"], one["out_used"], one["ring_size"]) == (3, 0, 4096)
    assert one["events_received"] >= 1
    assert one["notifications_sent"] >= 1
    assert (two["id"], two["state"], two["remote"]) == (2, "LISTENING", None)


def test_a_ring_the_guest_broke_has_no_fill_and_the_rest_is_said(machine, server, path: str) -> None:
    serve(machine, path, Limits())
    guest = machine.guest()
    ring = guest.connected(1, server.getsockname())
    ring.indexes["out_prod"] = 2**31
    one = ask(path)[2]
    assert one["id"] == 1
    assert "in_used" not in one


def test_it_is_its_users_alone_and_gone_with_the_backend(machine, path: str) -> None:
    serve(machine, path, Limits())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    machine.backend.stop()
    assert not Path(path).exists()


def test_one_left_by_a_killed_backend_is_taken_over_but_a_living_ones_is_not(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # A short path, whatever the temporary directory.
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("status")
    assert is_left_over("status")
    first, second = EventLoop(), EventLoop()
    server = StatusServer(first, "status", lambda: iter(()))
    assert not is_left_over("status")
    with pytest.raises(OSError, match="in use"):
        StatusServer(second, "status", lambda: iter(()))
    server.close()
    first.close()
    second.close()
    assert not Path("status").exists()
    assert not is_left_over("status")


def test_those_who_ask_and_do_not_listen_are_few_and_cost_little(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("refimpl.backend.status.ANSWER_SECONDS", 0.05)
    loop, made = EventLoop(), 0

    def endless():
        nonlocal made
        while True:
            made += 1
            yield {"line": "x" * 1000}

    server = StatusServer(loop, "status", endless)
    clients = []
    for _ in range(MOST_CLIENTS + 2):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect("status")
        clients.append(client)
        before = made
        loop.run_once(0)
        assert made - before <= LINES_A_TURN * MOST_CLIENTS
    for _ in range(1000):
        loop.run_once(0.01)
        if not server._answers:
            break
    assert not server._answers  # Who did not listen in time was dropped,
    assert made < 10_000  # and nothing was made for him that he had no room for.
    for client in clients:
        client.close()
    server.close()
    loop.close()
