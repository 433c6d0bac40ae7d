"""What a check has to say: one line each, with the file and the line it is about."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """Something to mend. ``path`` is relative to the project; ``line`` is 0 where it is about the whole file."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.message}"
