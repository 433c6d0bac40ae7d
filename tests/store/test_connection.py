"""The two ways to a server: a unix socket, and Linux's device (a raw pty plays it)."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from refimpl.errors import StoreError, StoreLost, StoreQuotaReached
from refimpl.store.client import StoreClient
from refimpl.store.connection import LARGEST_ANSWER
from refimpl.store.wire import HEADER, OK, PAYLOAD_MAX, Operation, packet, strings

PATIENCE = 30.0


@pytest.mark.parametrize("size", [0, 1, 16, 4096, 7200, 70_000, LARGEST_ANSWER])
def test_an_answer_of_any_length_up_to_a_megabyte(play, size: int) -> None:
    client = play()
    call = client.start(client.store.read, "/a")
    value = os.urandom(size)
    client.server.answer(client.server.receive(), value)
    assert call.result(PATIENCE) == value


def test_an_answer_in_single_bytes(play) -> None:
    client = play()
    call = client.start(client.store.read, "/a")
    request = client.server.receive()
    for byte in packet(Operation.READ, b"slowly", request.request_id):
        client.server.send_raw(bytes([byte]))
    assert call.result(PATIENCE) == b"slowly"


def test_several_answers_in_one_piece(play) -> None:
    client = play()
    calls = [client.start(client.store.read, "/a") for _ in range(20)]
    answers = [packet(Operation.READ, b"v", client.server.receive().request_id) for _ in calls]
    client.server.send_raw(b"".join(answers))
    assert [call.result(PATIENCE) for call in calls] == [b"v"] * 20


def test_a_long_answer_announced_and_never_sent_takes_no_memory(play) -> None:
    client = play(timeout=0.2)
    call = client.start(client.store.read, "/a")
    request = client.server.receive()
    client.server.send_raw(HEADER.pack(Operation.READ, request.request_id, 0, LARGEST_ANSWER))
    with pytest.raises(StoreLost):
        call.result(PATIENCE)
    assert len(client.store._router.connection._received) <= HEADER.size


def test_no_server_there(tmp_path: Path, stack) -> None:
    with pytest.raises(StoreLost) as caught:
        StoreClient.connect(str(tmp_path / "absent"))
    assert caught.value.error_name == "ENOENT"
    assert "absent" in str(caught.value)


def test_nobody_listens_there(tmp_path: Path, stack) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        with pytest.raises(StoreLost) as caught:
            StoreClient.connect(str(path))
    assert caught.value.error_name == "ECONNREFUSED"


def test_a_path_too_long_for_a_socket(tmp_path: Path, stack) -> None:
    with pytest.raises(StoreLost):
        StoreClient.connect(str(tmp_path / ("x" * 120)))


def test_a_server_whose_backlog_is_full(tmp_path: Path, stack) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        with pytest.raises(StoreLost) as caught:
            StoreClient.connect(path, timeout=0.05)
        assert caught.value.error_name == "ETIMEDOUT"


def test_a_full_backlog_that_empties_in_time(tmp_path: Path, stack) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        accepting = threading.Timer(0.05, lambda: listener.accept()[0].close())
        accepting.start()
        StoreClient.connect(path, timeout=PATIENCE).close()
        accepting.join()


def test_the_path_libxenstore_would_take(tmp_path: Path, stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(tmp_path / "by-environment"))
    with pytest.raises(StoreLost) as caught:
        StoreClient.connect()
    assert caught.value.path == str(tmp_path / "by-environment")


def test_no_device_there(tmp_path: Path, stack) -> None:
    with pytest.raises(StoreLost) as caught:
        StoreClient.connect_device(str(tmp_path / "xenbus"))
    assert caught.value.error_name == "ENOENT"


def test_our_descriptors_do_not_go_to_programs_we_start(play, play_device) -> None:
    for client in (play(), play_device()):
        assert not os.get_inheritable(client.store._router.connection.fileno())


class TestDevice:
    def test_reads_and_writes(self, play_device) -> None:
        client = play_device()
        assert stat.S_ISCHR(os.fstat(client.store._router.connection.fileno()).st_mode)
        call = client.start(client.store.read, "data/x")
        client.server.answer(client.server.expect(Operation.READ), b"\n\xff\0")
        assert call.result(PATIENCE) == b"\n\xff\0"

    def test_the_first_event_may_come_before_the_answer(self, play_device) -> None:
        client = play_device()
        told = threading.Event()
        call = client.start(client.store.watch, "data/w", lambda path: told.set())
        request = client.server.expect(Operation.WATCH)
        path, token, _ = request.payload.split(b"\0")
        # Linux leaves an event's ids uninitialised: one that equals a waiting request's is no answer to it.
        client.server.send_raw(packet(Operation.WATCH_EVENT, strings(path, token), request.request_id, 0xDEAD))
        assert told.wait(PATIENCE)
        assert not call.done()
        client.server.answer(request)
        assert call.result(PATIENCE).path == "data/w"

    def test_the_next_request_waits_for_the_answer_to_the_last(self, play_device, pause_until) -> None:
        """Linux keeps one buffer for the requests of a descriptor: a second one spoils the first on its way."""
        client = play_device()
        calls = [client.start(client.store.read, f"data/{number}") for number in range(8)]
        pause_until(lambda: len(client.store._router.rvars) == 8)
        for _ in calls:
            request = client.server.expect(Operation.READ)
            client.server.expect_nothing()
            client.server.answer(request, request.payload.removesuffix(b"\0"))
        assert {call.result(PATIENCE) for call in calls} == {b"data/%d" % number for number in range(8)}

    def test_an_event_is_no_answer(self, play_device, pause_until) -> None:
        client = play_device()
        first = client.start(client.store.read, "data/first")
        request = client.server.expect(Operation.READ)
        second = client.start(client.store.read, "data/second")
        pause_until(lambda: len(client.store._router.rvars) == 2)
        client.server.send_raw(packet(Operation.WATCH_EVENT, strings(b"data/w", b"token"), 0))
        client.server.expect_nothing()
        client.server.answer(request, b"1")
        client.server.answer(client.server.expect(Operation.READ), b"2")
        assert (first.result(PATIENCE), second.result(PATIENCE)) == (b"1", b"2")

    def test_old_kernels_answer_watches_with_id_0(self, play_device) -> None:
        client = play_device()
        told: list[str] = []
        calls = {path: client.start(client.store.watch, path, told.append) for path in ("data/a", "data/b")}
        reading = client.start(client.store.read, "data/c")
        tokens = {}
        for _ in range(3):  # One at a time, in the order the threads came.
            request = client.server.receive()
            if request.kind == Operation.READ:
                client.server.answer(request, b"v")
                continue
            path, token, _ = request.payload.split(b"\0")
            tokens[path.decode()] = token
            client.server.send_raw(packet(Operation.WATCH, OK))
        watches = {path: call.result(PATIENCE) for path, call in calls.items()}
        assert reading.result(PATIENCE) == b"v"
        cancelling = client.start(watches["data/a"].cancel)
        unwatch = client.server.expect(Operation.UNWATCH)
        assert unwatch.payload == strings(b"data/a", tokens["data/a"])
        client.server.send_raw(packet(Operation.UNWATCH, OK))
        cancelling.result(PATIENCE)

    def test_an_answer_with_id_0_to_nothing_is_nonsense(self, play_device) -> None:
        client = play_device()
        call = client.start(client.store.read, "data/c")
        client.server.receive()
        client.server.send_raw(packet(Operation.WATCH, OK))
        with pytest.raises(StoreLost):
            call.result(PATIENCE)

    def test_the_header_counts_towards_4096_bytes(self, play_device) -> None:
        client = play_device()
        largest = PAYLOAD_MAX - HEADER.size - len(b"a\0")
        call = client.start(client.store.write, "a", bytes(largest))
        client.server.answer(client.server.expect(Operation.WRITE))
        assert call.result(PATIENCE) is None
        with pytest.raises(StoreQuotaReached):
            client.store.write("a", bytes(largest + 1))

    def test_the_device_goes_away(self, play_device) -> None:
        client = play_device()
        lost = threading.Event()
        client.store.on_lost(lost.set)
        client.server.close()
        assert lost.wait(PATIENCE)
        with pytest.raises(StoreError):
            client.store.read("a")
