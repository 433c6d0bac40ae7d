"""The event loop: edges, timers, work from other threads."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator

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


def test_what_a_callback_raises_ends_the_loop(loop: EventLoop) -> None:
    def fail() -> None:
        raise ValueError("of the callback")

    loop.call_from_thread(fail)
    with pytest.raises(ValueError, match="of the callback"):
        loop.run()


def test_work_without_end_does_not_keep_the_loop_from_ending(loop: EventLoop) -> None:
    rounds: list[None] = []

    def go_on() -> None:
        loop.call_soon(go_on)
        rounds.append(None)
        if len(rounds) == 10:
            loop.stop()

    loop.call_soon(go_on)
    loop.run()
    assert len(rounds) == 10


@pytest.mark.parametrize("told", ["a guest", "the network"])
def test_after_a_round_with_events_the_loop_looks_out_before_it_sleeps(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    looked_out: list[LookOut] = []
    monkeypatch.setattr(LookOut, "find", lambda self, _look: looked_out.append(self))
    loop.run_once(0.001)
    assert not looked_out

    def work() -> None:
        loop.has_told_a_guest = told == "a guest"

    for _ in range(2):
        loop.call_from_thread(work)
        loop.run_once(1)
        del looked_out[:]
        loop.run_once(0)
        assert not looked_out
        loop.call_from_thread(work)
        loop.run_once(1)
        loop.run_once(0.001)
        loop.run_once(0.001)
        assert looked_out == [loop._for_guests if told == "a guest" else loop._for_the_network]


def test_the_loop_sleeps_at_once_where_much_has_to_happen_first(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_out: list[LookOut] = []
    monkeypatch.setattr(LookOut, "find", lambda self, _look: looked_out.append(self))

    def work(_mask: int) -> None:
        loop.long_waits += 1

    one, other = os.eventfd(1), os.eventfd(0)
    loop.watch(one, select.EPOLLIN, work)
    loop.watch(other, select.EPOLLIN, lambda _mask: None)
    loop.run_once(1)
    loop.run_once(0.001)
    assert not looked_out
    os.eventfd_write(other, 1)  # Another will be answered soon.
    loop.run_once(1)
    loop.run_once(0.001)
    assert looked_out
    for descriptor in (one, other):
        loop.unwatch(descriptor)
        os.close(descriptor)


def test_what_comes_while_the_loop_looks_out_is_done(loop: EventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_: LookOut, look: Callable[[], list[tuple[int, int]]]) -> list[tuple[int, int]]:
        assert look() == []
        loop.call_from_thread(lambda: done.append("handed in"))
        return look()

    done: list[str] = []
    monkeypatch.setattr(LookOut, "find", find)
    loop.ring_doorbell()
    loop.run_once(30)
    loop.run_once(30)
    assert done == ["handed in"]


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
