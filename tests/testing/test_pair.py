"""A real frontend and a real backend, connected in one process."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from refimpl.backend import Settings
from refimpl.errors import DeviceGone
from refimpl.testing.pair import shm_pair

PATIENCE = 30.0


def echo_once(server: socket.socket) -> threading.Thread:
    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_bytes_come_back_from_an_ordinary_server() -> None:
    sent = os.urandom(300_000)
    with socket.create_server(("127.0.0.1", 0)) as server, shm_pair() as pair:
        thread = echo_once(server)
        with pair.frontend.create_connection(server.getsockname(), PATIENCE) as connection:
            sending = threading.Thread(target=connection.sendall, args=(sent,))
            sending.start()
            received = bytearray()
            while len(received) < len(sent):
                received += connection.recv(65536)
            sending.join(PATIENCE)
        thread.join(PATIENCE)
    assert received == sent


def test_guests_talk_to_each_other() -> None:
    with shm_pair(guests=2, ring_order=1) as pair:
        one, other = pair.frontends
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = probe.getsockname()
        with one.create_server(address) as server:
            server.settimeout(PATIENCE)
            with other.create_connection(address, PATIENCE) as client, server.accept()[0] as accepted:
                accepted.settimeout(PATIENCE)
                client.sendall(b"hello")
                assert accepted.recv(5) == b"hello"


def test_own_settings_are_the_backends() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        shm_pair(settings=Settings()) as pair,
        pytest.raises(PermissionError),
    ):
        pair.frontend.create_connection(server.getsockname(), PATIENCE)


def test_reconnects_after_the_backend_restarts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, shm_pair() as pair:
        before = pair.frontend
        pair.restart_backend()
        with pytest.raises(DeviceGone):
            before.create_connection(server.getsockname(), PATIENCE)
        thread = echo_once(server)
        with pair.reopen().create_connection(server.getsockname(), PATIENCE) as connection:
            connection.sendall(b"again")
            assert connection.recv(5) == b"again"
        thread.join(PATIENCE)


def test_nothing_is_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    threads = threading.active_count()
    with shm_pair() as pair:
        prefix = pair.backend_platform.name
        assert prefix == "shm"
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads
