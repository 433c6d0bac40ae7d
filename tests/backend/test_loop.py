"""The event loop: edges, timers, work from other threads."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from refimpl.backend.loop import SOCKET_EVENTS, EventLoop
from refimpl.look_out import LookOut


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


def test_a_descriptor_is_called_once_an_edge(loop: EventLoop) -> None:
    left, right = socket.socketpair()
    with left, right:
        masks: list[int] = []
        loop.watch(left.fileno(), SOCKET_EVENTS, masks.append)
        loop.run_once(1)
        right.send(b"x")
        loop.run_once(1)
        loop.run_once(0)
        assert [bool(mask & select.EPOLLIN) for mask in masks] == [False, True]
        loop.unwatch(left.fileno())
        right.send(b"y")
        loop.run_once(0)
        assert len(masks) == 2


def test_unwatching_what_is_not_watched_is_nothing(loop: EventLoop) -> None:
    loop.unwatch(12345)


def test_a_callback_that_closes_another_descriptor_of_the_same_turn_stops_its_callback(loop: EventLoop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def close_the_other(mine: int) -> None:
        called.append(mine)
        loop.unwatch(pairs[1 - mine][0].fileno())

    for index, (left, right) in enumerate(pairs):
        right.send(b"x")
        loop.watch(left.fileno(), select.EPOLLIN, lambda _mask, index=index: close_the_other(index))
    loop.run_once(1)
    assert len(called) == 1
    for left, right in pairs:
        left.close()
        right.close()


def test_work_asked_for_within_a_turn_waits_for_the_next(loop: EventLoop) -> None:
    done: list[str] = []
    loop.call_soon(lambda: (done.append("first"), loop.call_soon(lambda: done.append("second"))))
    loop.run_once(0)
    assert done == ["first"]
    loop.run_once(0)
    assert done == ["first", "second"]


def test_timers_run_in_the_order_they_are_due_and_cancelled_ones_never(loop: EventLoop) -> None:
    done: list[str] = []
    loop.call_later(0.002, lambda: done.append("late"))
    loop.call_later(0.0, lambda: done.append("early"))
    cancelled = loop.call_later(0.001, lambda: done.append("never"))
    cancelled.cancel()
    cancelled.cancel()
    while "late" not in done:
        loop.run_once()
    assert done == ["early", "late"]


def test_many_cancelled_timers_do_not_wake_the_loop(loop: EventLoop) -> None:
    for _ in range(100):
        loop.call_later(0.0, lambda: None).cancel()
    assert loop._wait_seconds(5.0) == 5.0


def test_threads_hand_work_over_and_stop_the_loop(loop: EventLoop) -> None:
    done: list[int] = []

    def hand_over() -> None:
        for number in range(100):
            loop.call_from_thread(lambda number=number: done.append(number))
        loop.call_from_thread(loop.stop)

    thread = threading.Thread(target=hand_over)
    thread.start()
    loop.run()
    thread.join()
    assert done == list(range(100))


def test_a_closed_loop_can_still_be_told_things() -> None:
    loop = EventLoop()
    loop.close()
    loop.stop()
    loop.call_from_thread(lambda: None)


def test_closing_gives_its_descriptors_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        EventLoop().close()
    assert len(os.listdir("/proc/self/fd")) == before


def nothing() -> None:
    """Do nothing."""


def test_a_thread_works_a_turn_of_its_own_and_what_it_asks_for_is_done_too(loop: EventLoop) -> None:
    done: list[str] = []

    def work() -> None:
        done.append("work")
        loop.call_soon(lambda: done.append("soon"))

    loop.take_turn(work, lambda: done.append("leave"))
    assert done == ["work", "soon", "leave"]


@pytest.mark.parametrize("at_work", ["loop", "another thread"])
def test_who_is_at_work_does_what_another_thread_brings_and_both_sleep_after_it(loop: EventLoop, at_work: str) -> None:
    done: list[tuple[str, int]] = []
    threads: list[threading.Thread] = []
    brought = threading.Event()

    def note(what: str) -> None:
        done.append((what, threading.get_ident()))

    def work() -> None:
        def bring() -> None:
            loop.take_turn(lambda: (note("brought"), brought.set()), lambda: note("leave"))

        threads.append(threading.Thread(target=bring))
        threads[0].start()
        note("work")
        wait_until_brought()

    def wait_until_brought() -> None:
        if not brought.is_set():
            loop.call_soon(wait_until_brought)

    if at_work == "loop":
        loop.call_soon(work)
        loop.call_later(0.0, lambda: loop.call_soon(stop_when_brought))

        def stop_when_brought() -> None:
            loop.stop() if brought.is_set() else loop.call_soon(stop_when_brought)

        loop.run()
    else:
        loop.take_turn(work, nothing)
    threads[0].join(30)
    assert [what for what, _ in done] == ["work", "brought", "leave"]
    assert done[0][1] == done[1][1] != done[2][1]


def test_who_is_at_work_looks_for_descriptors_in_the_place_of_the_loops_thread(loop: EventLoop) -> None:
    left, right = socket.socketpair()
    with left, right:
        seen: list[int] = []
        loop.watch(left.fileno(), SOCKET_EVENTS, lambda _mask: seen.append(threading.get_ident()))

        def work() -> None:
            right.send(b"x")
            wait_until_seen()

        def wait_until_seen() -> None:
            if not seen:
                loop.call_soon(wait_until_seen)

        loop.take_turn(work, nothing)
    assert seen == [threading.get_ident()]


def test_who_is_at_work_calls_the_finders(loop: EventLoop) -> None:
    finds = iter([True, True, False])
    found: list[bool] = []

    def find() -> bool:
        found.append(next(finds, False))
        return found[-1]

    def wait_until_found() -> None:
        if len(found) < 3:
            loop.call_soon(wait_until_found)

    loop.add_finder(find)
    loop.take_turn(wait_until_found, nothing)
    assert found[:3] == [True, True, False]


def test_a_doorbell_that_two_threads_hear_is_answered_once(loop: EventLoop) -> None:
    """The loop's thread has found it and waits for its turn; who has that finds it as well."""
    loop.ring_doorbell()
    loop._sleep(0)
    loop._look()


def test_a_turn_that_starts_a_timer_wakes_the_loop(loop: EventLoop) -> None:
    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.take_turn(lambda: loop.call_soon(lambda: loop.call_later(0.001, loop.stop)), nothing)
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("looks_out", [True, False])
def test_work_without_end_does_not_keep_the_loop_from_ending(loop: EventLoop, monkeypatch, looks_out: bool) -> None:
    monkeypatch.setattr(LookOut, "pays", lambda _: looks_out)
    rounds: list[None] = []

    def go_on() -> None:
        loop.call_soon(go_on)
        rounds.append(None)
        if len(rounds) == 10:
            loop.stop()

    loop.call_soon(go_on)
    loop.run()
    assert len(rounds) == 10


def test_the_loop_hears_of_its_end_while_another_thread_answers_the_doorbell(loop: EventLoop) -> None:
    def answer() -> None:
        loop._is_rung = True  # It has read the doorbell, and not said so yet.
        loop.stop()
        loop._is_rung = False

    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.take_turn(answer, nothing)
    thread.join(30)
    assert not thread.is_alive()


def test_what_a_turn_of_another_thread_raises_ends_the_loop(loop: EventLoop) -> None:
    left = []

    def fail() -> None:
        raise ValueError("of the turn")

    loop.take_turn(fail, lambda: left.append(True))
    assert left
    with pytest.raises(ValueError, match="of the turn"):
        loop.run()


def test_a_doorbell_that_rings_is_not_rung_again_and_nothing_is_lost(loop: EventLoop) -> None:
    done: list[int] = []

    def add(number: int) -> None:
        done.append(number)
        if number < 3:
            loop.call_from_thread(lambda: add(number + 1))

    loop.call_from_thread(lambda: add(0))
    loop.call_from_thread(lambda: done.append(9))
    while len(done) < 5:
        loop.run_once(1)
    assert done == [0, 9, 1, 2, 3]


def test_an_event_of_a_descriptor_closed_meanwhile_is_not_that_of_the_next_with_its_number(loop: EventLoop) -> None:
    """Two sockets are ready in one turn; the callback of either closes both and watches a new pair by their numbers."""
    pairs = [socket.socketpair() for _ in range(2)]
    numbers = [left.fileno() for left, _ in pairs]
    fresh: list[tuple[socket.socket, socket.socket]] = []
    masks: list[int] = []

    def replace(_mask: int) -> None:
        for number in numbers:
            loop.unwatch(number)
        for index, number in enumerate(numbers):
            fresh.append(socket.socketpair())
            os.dup2(fresh[index][0].fileno(), number)
            loop.watch(number, SOCKET_EVENTS, masks.append)

    for left, right in pairs:
        loop.watch(left.fileno(), SOCKET_EVENTS, replace)
        right.close()  # An end of stream: the fresh ones have none.
    while len(masks) < 2:
        loop.run_once(1)
    assert not any(mask & select.EPOLLRDHUP for mask in masks)
    for pair in (*fresh, *pairs):
        for each in pair:
            each.close()
