"""One thread reads for all: whatever the server does, nobody waits for ever."""

from __future__ import annotations

import os
import resource
import socket
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from refimpl.errors import ForkedDomain, Misuse, StoreError, StoreLost, StoreNoEntry
from refimpl.store.client import StoreClient
from refimpl.store.wire import Operation, packet

PATIENCE = 30.0


@pytest.mark.parametrize("waiting", [1, 8])
def test_a_server_that_closes_ends_every_request(play, waiting: int) -> None:
    client = play()
    calls = [client.start(client.store.read, "/a") for _ in range(waiting)]
    for _ in calls:
        client.server.expect(Operation.READ)
    client.server.close()
    for call in calls:
        with pytest.raises(StoreLost) as caught:
            call.result(PATIENCE)
        assert caught.value.error_name == "ECONNRESET"
        assert caught.value.path == "/a"


def test_after_the_loss_every_call_says_so_at_once(play) -> None:
    client = play()
    client.server.close()
    for call in (
        lambda: client.store.read("/a"),
        lambda: client.store.write("/a", b""),
        lambda: client.store.watch("/a", lambda path: None),
        lambda: client.store.transact(lambda view: view.read("/a")),
        lambda: client.store.is_introduced(1),
    ):
        with pytest.raises(StoreLost):
            call()


def test_half_a_packet_and_then_the_end(play) -> None:
    client = play()
    call = client.start(client.store.read, "/a")
    request = client.server.expect(Operation.READ)
    client.server.send_raw(packet(Operation.READ, b"value", request.request_id)[:-2])
    client.server.close()
    with pytest.raises(StoreLost):
        call.result(PATIENCE)


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(lambda request: packet(Operation.READ, b"v", request.request_id + 1), id="unknown id"),
        pytest.param(lambda request: packet(Operation.READ, b"v", 0), id="id 0 to a read"),
        pytest.param(lambda request: packet(21, b"v", request.request_id), id="type pyxs does not know"),
        pytest.param(lambda request: packet(4711, b"v", request.request_id), id="type nobody knows"),
        pytest.param(lambda request: packet(4711, b"v"), id="unasked, type nobody knows"),
        pytest.param(lambda request: packet(Operation.WRITE, b"v", request.request_id), id="another type"),
        pytest.param(lambda request: packet(Operation.READ, b"v", request.request_id, 5), id="transaction"),
        pytest.param(lambda request: packet(Operation.WATCH_EVENT, b"/a\0"), id="event without token"),
        pytest.param(lambda request: packet(Operation.WATCH_EVENT), id="empty event"),
        pytest.param(lambda request: packet(Operation.READ)[:12] + b"\xff\xff\xff\x7f", id="2 GiB long"),
    ],
)
def test_nonsense_ends_in_store_lost_for_all(play, nonsense: Callable[..., bytes]) -> None:
    client = play()
    call = client.start(client.store.read, "/a")
    client.server.send_raw(nonsense(client.server.expect(Operation.READ)))
    with pytest.raises(StoreLost) as caught:
        call.result(PATIENCE)
    assert caught.value.error_name == "EPROTO"
    with pytest.raises(StoreLost):
        client.store.read("/b")


def test_a_silent_server_is_lost_when_the_time_out_is_over(play) -> None:
    client = play(timeout=0.05)
    lost = threading.Event()
    client.store.on_lost(lost.set)
    with pytest.raises(StoreLost) as caught:
        client.store.read("/a")
    assert caught.value.error_name == "ETIMEDOUT"
    assert lost.wait(PATIENCE)


def test_a_server_that_takes_nothing_is_lost_too(play) -> None:
    client = play(timeout=0.3)
    calls = [client.start(client.store.write, "/a", bytes(4000)) for _ in range(60)]
    for call in calls:
        with pytest.raises(StoreLost):
            call.result(PATIENCE)


def test_requests_larger_than_the_socket_takes_at_once_arrive_whole(play) -> None:
    client = play()
    value = bytes(range(256)) * 15
    calls = [client.start(client.store.write, "/a", value) for _ in range(64)]
    requests = [client.server.expect(Operation.WRITE) for _ in calls]  # None is answered before all are here.
    for request in requests:
        assert request.payload == b"/a\0" + value
        client.server.answer(request)
    for call in calls:
        assert call.result(PATIENCE) is None


def test_answers_may_come_in_any_order(play) -> None:
    client = play()
    calls = {name: client.start(client.store.read, name) for name in ("/a", "/b", "/c", "/d")}
    requests = [client.server.expect(Operation.READ) for _ in calls]
    for request in reversed(requests):
        client.server.answer(request, request.payload)
    for name, call in calls.items():
        assert call.result(PATIENCE) == name.encode() + b"\0"


def test_request_ids_stay_within_32_bits_and_differ(play) -> None:
    client = play()
    client.store._router._last_request_id = 2**32 - 3
    calls = [client.start(client.store.read, "/a") for _ in range(4)]
    requests = [client.server.expect(Operation.READ) for _ in calls]
    assert sorted(request.request_id for request in requests) == [1, 2, 2**32 - 2, 2**32 - 1]
    for request in requests:
        client.server.answer(request)
    for call in calls:
        call.result(PATIENCE)


def test_close_from_any_thread_ends_the_others_waiting(play) -> None:
    client = play()
    called = []
    client.store.on_lost(lambda: called.append(1))
    calls = [client.start(client.store.read, "/a") for _ in range(5)]
    for _ in calls:
        client.server.receive()
    client.start(client.store.close).result(PATIENCE)
    for call in calls:
        with pytest.raises(StoreLost) as caught:
            call.result(PATIENCE)
        assert caught.value.error_name == "ESHUTDOWN"
    client.store.close()
    client.store.on_lost(lambda: called.append(2))
    assert not called  # To close is not to lose.


def test_close_while_the_server_takes_nothing(play) -> None:
    client = play()
    calls = [client.start(client.store.write, "/a", bytes(4000)) for _ in range(60)]
    client.server.receive()
    client.store.close()
    for call in calls:
        with pytest.raises(StoreLost):
            call.result(PATIENCE)


def test_on_lost_is_told_once_and_late_listeners_at_once(play) -> None:
    client = play()
    told, threads = [], []
    gate = threading.Event()

    def first() -> None:
        told.append("first")
        threads.append(threading.current_thread().name)
        raise RuntimeError("a callback may fail")

    client.store.on_lost(first)
    client.store.on_lost(lambda: (told.append("second"), gate.set()))
    client.server.close()
    assert gate.wait(PATIENCE)
    with pytest.raises(StoreLost):
        client.store.read("/a")
    client.store.on_lost(lambda: told.append("late"))
    assert told == ["first", "second", "late"]
    assert threads == ["refimpl-store"]


def test_on_lost_may_close_the_store(play, pause_until) -> None:
    client = play()
    thread = client.store._router.thread
    client.store.on_lost(client.store.close)
    client.server.close()
    pause_until(lambda: not thread.is_alive())


def test_a_forked_child_owns_nothing(play) -> None:
    client = play()
    call = client.start(client.store.watch, "/w", lambda path: None)
    client.server.take_watch()
    watch = call.result(PATIENCE)
    calls = (
        lambda: client.store.read("/a"),
        lambda: client.store.write("/a", b""),
        lambda: client.store.watch("/a", lambda path: None),
        lambda: client.store.transact(lambda view: None),
        lambda: client.store.is_introduced(0),
        lambda: client.store.on_lost(lambda: None),
        watch.cancel,
        client.store.close,
    )
    with client.store._router.send_lock, client.store._router._state:  # Held by threads the child does not have.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Fork with threads: that is the point.
            child = os.fork()
        if child == 0:
            refused = 0
            for each in calls:
                try:
                    each()
                except ForkedDomain:
                    refused += 1
                except BaseException:
                    break
            os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(calls)
    call = client.start(client.store.read, "/a")
    client.server.answer(client.server.expect(Operation.READ), b"still")
    assert call.result(PATIENCE) == b"still"


def test_descriptors_above_1023(play, stack: ExitStack) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("the limit of open files does not reach 2048 here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    filler = []
    while not filler or filler[-1] < 1024:
        filler.append(os.open(os.devnull, os.O_RDONLY))
        stack.callback(os.close, filler[-1])
    client = play()
    assert client.store._router.connection.fileno() > 1023
    # The test's own end must not be above: select would refuse it.
    low = os.dup2(client.server.descriptor, filler[0])
    client.server.close()
    client.server.descriptor = low
    call = client.start(client.store.read, "/a")
    client.server.answer(client.server.expect(Operation.READ), b"v")
    assert call.result(PATIENCE) == b"v"
    client.store.close()
    client.server.descriptor = -1


def test_an_error_is_the_caller_s_and_the_connection_lives(play) -> None:
    client = play()
    call = client.start(client.store.read, "/a")
    client.server.refuse(client.server.receive(), b"ENOENT\0")
    with pytest.raises(StoreNoEntry):
        call.result(PATIENCE)
    call = client.start(client.store.read, "/a")
    client.server.answer(client.server.receive(), b"v")
    assert call.result(PATIENCE) == b"v"


def test_a_bug_in_the_reading_thread_leaves_nobody_waiting(play, monkeypatch: pytest.MonkeyPatch) -> None:
    client = play()
    monkeypatch.setattr(client.store._router, "_hand_on", lambda packet: 1 / 0)
    call = client.start(client.store.read, "/a")
    client.server.answer(client.server.receive(), b"v")
    with pytest.raises(StoreLost) as caught:
        call.result(PATIENCE)
    assert "ZeroDivisionError" in str(caught.value)


def test_every_store_error_is_ours() -> None:
    assert issubclass(StoreLost, StoreError)
    assert not issubclass(Misuse, StoreError)


def test_the_event_of_a_callback_that_calls_the_store(play) -> None:
    client = play()
    errors: list[BaseException] = []
    done = threading.Event()

    def callback(path: str) -> None:
        for call in (
            lambda: client.store.read(path),
            lambda: client.store.transact(lambda view: None),
            lambda: client.store.watch("/b", lambda path: None),
            lambda: client.store.is_introduced(1),
        ):
            try:
                call()
            except BaseException as error:
                errors.append(error)
        done.set()

    call = client.start(client.store.watch, "/a", callback)
    client.server.event(b"/a", client.server.take_watch())
    call.result(PATIENCE)
    assert done.wait(PATIENCE)
    assert [type(error) for error in errors] == [Misuse] * 4


def test_store_clients_do_not_share(play, tmp_path) -> None:
    first = play()
    second = play()
    first.server.close()
    with pytest.raises(StoreLost):
        first.store.read("/a")
    call = second.start(second.store.read, "/a")
    second.server.answer(second.server.receive(), b"v")
    assert call.result(PATIENCE) == b"v"
    assert isinstance(second.store, StoreClient)


def test_a_thread_stuck_in_the_kernel_s_write_holds_nobody_else(play) -> None:
    client = play(timeout=0.05)
    # As one that writes to a device while the domain is being migrated.
    with client.store._router.send_lock, pytest.raises(StoreLost) as caught:
        client.store.read("/a")
    assert caught.value.error_name == "ETIMEDOUT"


def test_an_interrupt_in_the_middle_of_a_packet_is_a_loss(play, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes next would be taken for the rest of it."""
    client = play()

    def interrupted(data: bytes) -> int:
        os.write(client.store._router.connection.fileno(), data[:5])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client.store._router.connection, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.store.write("/a", b"v")
    with pytest.raises(StoreLost):
        client.store.write("/b", b"v")


def test_no_thread_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            StoreClient.connect(path)  # And nothing is left open.
