"""The client with no manners: what it sends, and that it shows what comes."""

from __future__ import annotations

import socket

import pytest

from refimpl.store.wire import Operation, packet
from refimpl.testing.raw_store_client import Message, RawStoreClient


@pytest.fixture
def ends():
    server, client = socket.socketpair()
    with server, RawStoreClient(client, timeout=0.05) as raw:
        yield server, raw


def test_it_sends_what_it_is_told(ends):
    server, raw = ends
    assert raw.send(99, b"xyz", 7) == 1
    assert server.recv(100) == packet(99, b"xyz", 1, 7)
    assert raw.send(2) == 2


def test_a_reply_and_the_events_before_it(ends):
    server, raw = ends
    server.sendall(packet(Operation.WATCH_EVENT, b"/a\0t\0") + packet(Operation.READ, b"v", 1, 0))
    assert raw.request(Operation.READ, b"/a\0") == Message(Operation.READ, 1, 0, b"v")
    assert raw.events == [(b"/a", b"t")]


def test_an_answer_to_another_request(ends):
    server, raw = ends
    server.sendall(packet(Operation.READ, b"v", 2))
    with pytest.raises(AssertionError, match="asked 1"):
        raw.request(Operation.READ, b"/a\0")


def test_errors_have_names(ends):
    server, raw = ends
    server.sendall(packet(Operation.ERROR, b"ENOENT\0", 1))
    assert raw.request(Operation.READ, b"/a\0").error == "ENOENT"
    assert Message(Operation.READ, 1, 0, b"ENOENT\0").error is None


def test_a_server_that_is_silent_or_hangs_up(ends):
    server, raw = ends
    with pytest.raises(TimeoutError):
        raw.receive()
    server.sendall(packet(Operation.READ, b"value", 1)[:-2])
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError, match="2 bytes short"):
        raw.receive()


def test_nobody_listens(tmp_path):
    with pytest.raises(FileNotFoundError):
        RawStoreClient.connect(tmp_path / "none")
