"""The other ends of a frontend's connections: made up by the backend that observes it, by TCP port number.

No TCP is behind them, so whoever runs them needs no network, and what they do is the same each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from refimpl.conform.frontend.driver import DISCARD, ECHO, GENERATE, GREET, RESET, TELL, pattern

GREETING = b"greetings\n"
GENERATED_BYTES = 300_000
#: What an incoming connection sends first.
KNOCK = b"knock"


class Service:
    """One made-up peer: what it sends, what it makes of what it receives, how it ends."""

    def __init__(self, kind: int, told: Callable[[dict[str, Any]], None]) -> None:
        self._told = told
        self._kind = kind
        self._line = b""
        self._received = 0
        #: What is to be sent.
        self.waiting = bytearray()
        #: ``in_error`` to set once all is sent.
        self.ends_with = 0
        #: What came that should not have.
        self.garbled: str | None = None
        if kind == GREET:
            self.waiting += GREETING
            self.ends_with = -107
        elif kind == RESET:
            self.waiting += GREETING
            self.ends_with = -104
        elif kind == GENERATE:
            self.waiting += pattern(0, GENERATED_BYTES)
            self.ends_with = -107
        elif kind == 0:
            self.waiting += KNOCK

    @property
    def wants_more(self) -> bool:
        """Whether it takes bytes now: an echo does not run ahead of its reader without bound."""
        return len(self.waiting) < 1 << 20

    def take(self, data: bytes) -> None:
        """Receive bytes."""
        if self._kind == DISCARD:
            if data != pattern(self._received, len(data)) and self.garbled is None:
                self.garbled = f"bytes {self._received} to {self._received + len(data)} of a pattern came otherwise"
        elif self._kind == TELL:
            self._line += data
            *lines, self._line = self._line.split(b"\n")
            for line in lines:
                self._tell(line)
        elif self._kind in (ECHO, 0):
            self.waiting += data
        self._received += len(data)

    def _tell(self, line: bytes) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            self.garbled = f"a line of the driver's report came as {line[:60]!r}"
            return
        if isinstance(told, dict):
            self._told(told)
