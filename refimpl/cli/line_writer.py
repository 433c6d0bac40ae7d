"""Lines written by a thread of their own, so that whoever has one to say never waits for a slow reader."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from refimpl.ready import is_writable

#: Lines kept for a reader who is behind; what comes after them is dropped, counted, and told.
MOST_LINES = 10_000
CLOSING_SECONDS = 2.0


class LineWriter:
    """Writes lines to a descriptor, which stays its owner's.

    ``tell_dropped(count)`` makes the line that stands where lines were dropped. ``on_failure(error)`` is called, in the
    thread, when writing fails; what is given after that is lost.
    """

    def __init__(
        self,
        descriptor: int,
        tell_dropped: Callable[[int], str],
        on_failure: Callable[[OSError], None],
    ) -> None:
        self._descriptor = os.dup(descriptor)  # Closed by the thread: it may outlast what it is a copy of.
        self._tell_dropped = tell_dropped
        self._on_failure = on_failure
        self._most_lines = MOST_LINES
        self._lines: list[str] = []
        self._dropped = 0
        self._being_written = 0
        self._is_closing = self._is_over = False
        self._condition = threading.Condition()
        # A daemon: a reader who never reads keeps no process alive.
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Have a line written, without its end; dropped where too many wait."""
        with self._condition:
            if self._is_over:
                return
            if len(self._lines) < self._most_lines:
                self._lines.append(line)
                self._condition.notify()
            else:
                self._dropped += 1

    def close(self) -> int:
        """Wait until all is written, but not for long; return how many lines were not."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        self._thread.join(CLOSING_SECONDS)
        with self._condition:
            unwritten = 0 if self._is_over else self._being_written + len(self._lines) + self._dropped
            self._is_over = True
        return unwritten

    def _run(self) -> None:
        try:
            while lines := self._take():
                self._write("".join(f"{line}\n" for line in lines).encode())
                self._being_written = 0
        except OSError as error:
            with self._condition:
                was_over, self._is_over = self._is_over, True
                self._lines.clear()
            if not was_over:
                self._on_failure(error)
        finally:
            os.close(self._descriptor)

    def _take(self) -> list[str]:
        with self._condition:
            self._condition.wait_for(lambda: self._lines or self._is_closing)
            if self._is_over:
                return []
            lines, self._lines = self._lines, []
            if self._dropped:  # Only after all of these; there is room for more from now on.
                lines.append(self._tell_dropped(self._dropped))
                self._dropped = 0
            self._being_written = len(lines)
            return lines

    def _write(self, data: bytes) -> None:
        # Not through a file object: one that a reader holds up would hold up the interpreter's end too.
        unwritten = memoryview(data)
        while unwritten and not self._is_over:
            try:
                unwritten = unwritten[os.write(self._descriptor, unwritten) :]
            except BlockingIOError:
                is_writable(self._descriptor)
