"""The thread that may wait for xenstore, and its turns in the loop that moves the data."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from refimpl.backend.loop import EventLoop
from refimpl.backend.xenbus_thread import XenbusThread


@pytest.fixture
def data_loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


@contextlib.contextmanager
def started(data_loop: EventLoop) -> Iterator[XenbusThread]:
    xenbus = XenbusThread(data_loop)
    xenbus.start()
    try:
        yield xenbus
    finally:
        xenbus.close()


def test_work_is_done_in_a_turn_of_the_data_loop_and_gives_its_result(data_loop: EventLoop) -> None:
    came: list[object] = []

    def ask() -> None:
        came.append(xenbus.in_turn(threading.current_thread))
        with contextlib.suppress(KeyError):
            xenbus.in_turn(lambda: {}["no such"])
        data_loop.stop()

    with started(data_loop) as xenbus:
        xenbus.loop.call_from_thread(ask)
        data_loop.run()
    assert came == [threading.current_thread()]


def test_data_goes_on_while_xenstore_is_waited_for(data_loop: EventLoop) -> None:
    answer = threading.Event()
    with started(data_loop) as xenbus:
        xenbus.loop.call_from_thread(answer.wait)
        data_loop.call_later(0.001, data_loop.stop)
        data_loop.run()
        assert not answer.is_set()
        answer.set()


def test_a_failure_is_raised_by_the_data_loop(data_loop: EventLoop) -> None:
    with started(data_loop) as xenbus:
        xenbus.loop.call_from_thread(lambda: [].pop())
        with pytest.raises(IndexError):
            data_loop.run()


def test_who_waits_for_a_turn_at_the_end_gets_it(data_loop: EventLoop) -> None:
    done: list[str] = []
    asking = threading.Event()

    def ask() -> None:
        asking.set()
        xenbus.in_turn(lambda: done.append("in turn"))

    with started(data_loop) as xenbus:
        xenbus.loop.call_from_thread(ask)
        asking.wait()
    assert done == ["in turn"]
    assert xenbus.in_turn(lambda: "at once") == "at once"
