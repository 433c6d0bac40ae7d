"""The result of a step that is not answered yet."""

from __future__ import annotations

from typing import Final

WAITING: Final = object()
