"""The watches of one connection: events are merged as they come, and told by one thread.

What waits to be told is bounded, however many events a peer provokes: a watch holds at most
:data:`MOST_CHANGED_PATHS` different paths, and more than that become one event for the watched path itself, which
stands for everything below it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import count

from refimpl.errors import StoreLost
from refimpl.platform import Watch

#: Different changed paths kept for one watch before they are told as the watched path alone.
MOST_CHANGED_PATHS = 64

_log = logging.getLogger(__name__)


class RegisteredWatch(Watch):
    """One watch; ``token`` is its name on the wire, never used twice on a connection."""

    def __init__(
        self,
        path: str,
        token: bytes,
        callback: Callable[[str], None],
        unregister: Callable[[RegisteredWatch], None],
    ) -> None:
        self.path = path
        self.token = token
        self.callback = callback
        self.changed: dict[str, None] = {}
        self._unregister = unregister

    def cancel(self) -> None:
        """Stop the watch; waits for a callback that is running, unless called from within one.

        Raises StoreLost if that callback does not end within the connection's time-out.
        """
        self._unregister(self)


class Watches:
    """Which token calls whom, and which changes wait to be told."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._by_token: dict[bytes, RegisteredWatch] = {}
        self._waiting: dict[bytes, RegisteredWatch] = {}
        self._telling: RegisteredWatch | None = None
        self._tokens = count(1)

    def add(
        self, path: str, callback: Callable[[str], None], unregister: Callable[[RegisteredWatch], None]
    ) -> RegisteredWatch:
        """Take a watch in, before it is asked for: its first event may come ahead of the answer."""
        with self._condition:
            watch = RegisteredWatch(path, b"%x" % next(self._tokens), callback, unregister)
            self._by_token[watch.token] = watch
        return watch

    def remove(self, watch: RegisteredWatch) -> bool:
        """Forget a watch and what waits for it; say whether it was there."""
        with self._condition:
            self._waiting.pop(watch.token, None)
            return self._by_token.pop(watch.token, None) is not None

    def note(self, path: str, token: bytes) -> None:
        """Keep a change until :meth:`tell`; one for a watch that is no more (a late event) is dropped."""
        with self._condition:
            watch = self._by_token.get(token)
            if watch is None:
                return
            self._waiting[token] = watch
            watch.changed[path] = None  # SEC-B-18: merged
            if len(watch.changed) > MOST_CHANGED_PATHS:  # SEC-B-18: bounded
                watch.changed = {watch.path: None}

    def tell(self) -> None:
        """Call the callbacks of everything noted; one that raises is logged."""
        while True:
            with self._condition:
                if not self._waiting:
                    return
                watch = self._waiting.pop(next(iter(self._waiting)))
                changed, watch.changed = watch.changed, {}
                self._telling = watch
            try:
                self._tell_one(watch, changed)
            finally:
                with self._condition:
                    self._telling = None
                    self._condition.notify_all()

    def _tell_one(self, watch: RegisteredWatch, changed: dict[str, None]) -> None:
        for path in changed:
            if watch.token not in self._by_token:
                return
            try:
                watch.callback(path)
            except BaseException:  # Nothing a callback does may end the thread that everybody waits for.
                _log.exception("the callback of the watch on %s failed", watch.path)

    def wait_told(self, watch: RegisteredWatch, timeout: float) -> None:
        """Wait until the watch's callback is not running. Raises StoreLost after ``timeout`` seconds."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._telling is not watch, timeout):
                raise StoreLost("ETIMEDOUT", watch.path, f"the watch's callback did not end in {timeout:g} s")
