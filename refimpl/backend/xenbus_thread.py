"""Where the backend talks to xenstore, which may take its time: a thread of its own, so that data flows on meanwhile.

Devices live here. What they share with the data (a guest's channel, its sockets, who observes) they touch in a turn of
the event loop that moves the data, by :meth:`XenbusThread.in_turn`. That loop never waits for this thread.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import NoReturn, TypeVar

from refimpl.backend.loop import EventLoop

_LOOK_SECONDS = 0.01

Result = TypeVar("Result")


class XenbusThread:
    """A second event loop, without descriptors, and the way from there to the one that moves the data."""

    def __init__(self, data_loop: EventLoop) -> None:
        #: For :meth:`EventLoop.call_soon`, ``call_later`` and ``call_from_thread`` of what may ask xenstore.
        self.loop = EventLoop()
        self._data_loop = data_loop
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="xenbus", daemon=True)

    def start(self) -> None:
        """Begin. What goes wrong here is raised by the data loop's ``run``."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run()
        except Exception as error:
            if not self._is_closing:
                self._data_loop.call_from_thread(functools.partial(_throw, error))

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """Have ``work()`` done in a turn of the data loop; return its result, or raise what it raises.

        Once :meth:`close` is over nobody turns: then it is done here.
        """
        if threading.current_thread() is not self._thread:
            return work()
        outcome: Future[Result] = Future()

        def carry_out() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)

        self._data_loop.call_from_thread(carry_out)
        return outcome.result()

    def close(self) -> None:
        """Wait for the end of what is being asked of xenstore; the data loop's ``run`` is over."""
        self._is_closing = True
        self.loop.stop()
        while self._thread.is_alive():
            self._data_loop.run_once(_LOOK_SECONDS)  # It may wait for a turn.
        self.loop.close()


def _throw(error: Exception) -> NoReturn:
    raise error
