"""Watches: every change is told, in bounded memory, and none after the watch is cancelled."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from refimpl.errors import StoreAccessRefused, StoreLost
from refimpl.store.watches import MOST_CHANGED_PATHS
from refimpl.store.wire import OK, Operation, packet, strings

PATIENCE = 30.0


def registered(client, path: str, callback):
    call = client.start(client.store.watch, path, callback)
    token = client.server.take_watch()
    return call.result(PATIENCE), token


def cancel(client, watch) -> None:
    call = client.start(watch.cancel)
    client.server.answer(client.server.expect(Operation.UNWATCH))
    call.result(PATIENCE)


def settle(client) -> None:
    """Return when all that the server sent before has been read and told."""
    for _ in range(2):  # The first answer may be read together with the events, ahead of their callbacks.
        call = client.start(client.store.read, "/settle")
        client.server.answer(client.server.expect(Operation.READ), b"")
        call.result(PATIENCE)


def test_changes_are_told_with_their_paths(play) -> None:
    client = play()
    told: list[str] = []
    watch, token = registered(client, "/a", told.append)
    assert watch.path == "/a"
    for path in (b"/a", b"/a/b", b"/a/b/c"):
        client.server.event(path, token)
        settle(client)
    assert told == ["/a", "/a/b", "/a/b/c"]


def test_two_watches_of_one_path_have_tokens_of_their_own(play) -> None:
    client = play()
    first_told: list[str] = []
    second_told: list[str] = []
    first, first_token = registered(client, "/a", first_told.append)
    _second, second_token = registered(client, "/a", second_told.append)
    assert first_token != second_token
    cancel(client, first)
    client.server.event(b"/a", first_token)  # Late: it was under way when the watch was cancelled.
    client.server.event(b"/a", second_token)
    settle(client)
    assert (first_told, second_told) == ([], ["/a"])


@pytest.mark.security("SEC-B-18")
def test_a_storm_is_merged_and_memory_stays_flat(play) -> None:
    client = play()
    gate, entered = threading.Event(), threading.Event()
    told: list[str] = []

    def callback(path: str) -> None:
        told.append(path)
        entered.set()
        assert gate.wait(PATIENCE)

    watch, token = registered(client, "/a", callback)
    client.server.event(b"/a/first", token)
    assert entered.wait(PATIENCE)
    waiting = client.store._router.watches._waiting
    storm = b"".join(
        packet(Operation.WATCH_EVENT, strings(b"/a/%d" % (number % 1000), token)) for number in range(10_000)
    )
    sending = client.start(client.server.send_raw, storm)
    gate.set()
    sending.result(PATIENCE)
    settle(client)
    assert not waiting
    assert not watch.changed
    assert len(told) < 10_000 // 4
    assert "/a" in told  # More than is kept: told as the watched path, which means everything below.


@pytest.mark.security("SEC-B-18")
def test_what_waits_for_one_watch_is_bounded(play) -> None:
    client = play()
    watches = client.store._router.watches
    watch = watches.add("/a", lambda path: None, lambda watch: None)
    for number in range(MOST_CHANGED_PATHS):
        watches.note(f"/a/{number}", watch.token)
    assert list(watch.changed) == [f"/a/{number}" for number in range(MOST_CHANGED_PATHS)]
    for number in range(100_000):
        watches.note(f"/a/{number}", watch.token)
        assert len(watch.changed) <= MOST_CHANGED_PATHS
    assert "/a" in watch.changed


@pytest.mark.security("SEC-B-18")
def test_events_for_no_watch_of_ours_are_dropped(play) -> None:
    client = play()
    for number in range(2000):
        client.server.event(b"/a", b"foreign%d" % number)
    settle(client)
    assert not client.store._router.watches._by_token
    assert not client.store._router.watches._waiting


def test_a_third_field_in_an_event_is_ignored(play) -> None:
    client = play()
    told: list[str] = []
    _, token = registered(client, "/a", told.append)
    client.server.send(Operation.WATCH_EVENT, strings(b"/a/b", token, b"1"))
    settle(client)
    assert told == ["/a/b"]


def test_the_first_event_in_one_piece_with_the_answer(play) -> None:
    client = play()
    told = threading.Event()
    call = client.start(client.store.watch, "@releaseDomain", lambda path: told.set())
    request = client.server.expect(Operation.WATCH)
    path, token, _ = request.payload.split(b"\0")
    answer = packet(Operation.WATCH, OK, request.request_id)
    client.server.send_raw(answer + packet(Operation.WATCH_EVENT, strings(path, token)))
    call.result(PATIENCE)
    assert told.wait(PATIENCE)


def test_a_callback_that_raises_harms_nobody(play, caplog: pytest.LogCaptureFixture) -> None:
    client = play()
    told: list[str] = []

    def callback(path: str) -> None:
        told.append(path)
        raise SystemExit(path) if path == "/a/exit" else RuntimeError(path)

    _, token = registered(client, "/a", callback)
    with caplog.at_level(logging.ERROR):
        for path in (b"/a", b"/a/exit", b"/a/b"):
            client.server.event(path, token)
            settle(client)
    assert told == ["/a", "/a/exit", "/a/b"]
    assert sum("/a" in record.getMessage() for record in caplog.records) == 3


def test_a_watch_refused_leaves_nothing(play) -> None:
    client = play()
    call = client.start(client.store.watch, "@introduceDomain", lambda path: None)
    client.server.refuse(client.server.expect(Operation.WATCH), b"EACCES\0")
    with pytest.raises(StoreAccessRefused):
        call.result(PATIENCE)
    assert not client.store._router.watches._by_token


def test_cancel_twice_asks_the_server_once(play) -> None:
    client = play()
    watch, _ = registered(client, "/a", lambda path: None)
    cancel(client, watch)
    watch.cancel()
    settle(client)


def test_cancel_of_a_watch_the_server_forgot(play) -> None:
    client = play()
    watch, _ = registered(client, "/a", lambda path: None)
    call = client.start(watch.cancel)
    client.server.refuse(client.server.expect(Operation.UNWATCH), b"ENOENT\0")
    call.result(PATIENCE)


def test_cancel_after_the_loss_and_after_the_close(play) -> None:
    client = play()
    first, _ = registered(client, "/a", lambda path: None)
    second, _ = registered(client, "/b", lambda path: None)
    client.server.close()
    first.cancel()
    client.store.close()
    second.cancel()


def test_cancel_with_a_silent_server_ends(play) -> None:
    client = play(timeout=0.1)
    call = client.start(client.store.watch, "/a", lambda path: None)
    client.server.take_watch()
    call.result(PATIENCE).cancel()
    with pytest.raises(StoreLost):
        client.store.read("/a")


def test_cancel_waits_for_the_callback_that_runs(play, pause_until) -> None:
    client = play()
    entered, gate = threading.Event(), threading.Event()
    told: list[str] = []

    def callback(path: str) -> None:
        told.append(path)
        entered.set()
        assert gate.wait(PATIENCE)

    watch, token = registered(client, "/a", callback)
    client.server.event(b"/a/1", token)
    assert entered.wait(PATIENCE)
    client.server.event(b"/a/2", token)
    call = client.start(watch.cancel)
    unwatch = client.server.expect(Operation.UNWATCH)
    assert not call.done()
    client.server.event(b"/a/3", token)
    client.server.answer(unwatch)
    gate.set()
    call.result(PATIENCE)
    settle(client)
    assert told == ["/a/1"]


def test_cancel_does_not_wait_for_ever(play) -> None:
    client = play(timeout=0.1)
    entered, gate = threading.Event(), threading.Event()

    def callback(path: str) -> None:
        entered.set()
        assert gate.wait(PATIENCE)

    call = client.start(client.store.watch, "/a", callback)
    token = client.server.take_watch()
    watch = call.result(PATIENCE)
    client.server.event(b"/a", token)
    assert entered.wait(PATIENCE)
    with pytest.raises(StoreLost):
        watch.cancel()
    gate.set()


def test_cancel_from_within_the_callback(play) -> None:
    client = play()
    told: list[str] = []
    box = []

    def callback(path: str) -> None:
        told.append(path)
        box[0].cancel()
        box[0].cancel()

    watch, token = registered(client, "/a", callback)
    box.append(watch)
    client.server.send_raw(b"".join(packet(Operation.WATCH_EVENT, strings(p, token)) for p in (b"/a", b"/a/b")))
    unwatch = client.server.expect(Operation.UNWATCH)
    settle(client)
    client.server.answer(unwatch)  # Nobody waits for it, and it is no nonsense.
    settle(client)
    assert told == ["/a"]


def test_one_callback_cancels_another_watch(play) -> None:
    client = play()
    told: list[str] = []
    other, other_token = registered(client, "/other", told.append)
    _, token = registered(client, "/a", lambda path: other.cancel())
    events = packet(Operation.WATCH_EVENT, strings(b"/a", token))
    events += packet(Operation.WATCH_EVENT, strings(b"/other", other_token))
    client.server.send_raw(events)
    client.server.answer(client.server.expect(Operation.UNWATCH))
    settle(client)
    assert told == []


def test_a_callback_may_close_the_store(play, pause_until) -> None:
    client = play()
    thread = client.store._router.thread
    _, token = registered(client, "/a", lambda path: client.store.close())
    client.server.event(b"/a", token)
    pause_until(lambda: not thread.is_alive())
    with pytest.raises(StoreLost):
        client.store.read("/a")


def test_no_callback_after_close(play) -> None:
    client = play()
    told: list[float] = []
    _, token = registered(client, "/a", lambda path: told.append(time.monotonic()))
    stop = threading.Event()

    def storm() -> None:
        while not stop.is_set():
            try:
                client.server.event(b"/a", token)
            except OSError:
                return

    storming = client.start(storm)
    client.store.close()
    closed = time.monotonic()
    stop.set()
    storming.result(PATIENCE)
    assert all(moment <= closed for moment in told)
