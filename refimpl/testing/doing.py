"""A call in a thread of its own, for tests that go on while it lasts.

::

    accepting = Doing(listener.accept)
    peer.connect(address)
    connection, _ = accepting.result()
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

#: Seconds after which a call is said to hang.
PATIENCE = 60.0


class Doing:
    """A call whose end can be waited for and whose error is not lost. It begins at once."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        self._outcome: tuple[Any, BaseException | None] = (None, None)
        self._thread = threading.Thread(target=self._run, args=(function, arguments, more), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[..., Any], arguments: Any, more: Any) -> None:
        try:
            self._outcome = function(*arguments, **more), None
        except BaseException as error:
            self._outcome = None, error

    @property
    def is_done(self) -> bool:
        """Whether the call has ended, one way or the other."""
        return not self._thread.is_alive()

    def result(self, patience: float = PATIENCE) -> Any:
        """Wait for the end; return what was returned, raise what was raised. AssertionError if it does not end."""
        self._thread.join(patience)
        if not self.is_done:
            raise AssertionError("it hangs")
        value, error = self._outcome
        if error is not None:
            raise error
        return value
