"""Find the calls of fences in a module's source, so that a test can weaken each of them.

A call counts where it is written as this package writes them: ``self._full_fence()`` or ``self._fences.full()``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from refimpl.testing.simulated_processor import FenceSite

#: What each kind of fence can be weakened to.
WEAKER = {"full": ("nothing", "read", "write"), "read": ("nothing", "write"), "write": ("nothing", "read")}


class FenceCall(NamedTuple):
    """A call of a fence: in which file and function, the how-manieth there, which kind, on which line."""

    path: str
    function: str
    number: int
    kind: str
    line: int

    def __str__(self) -> str:
        return f"{self.function}-{self.number}-{self.kind}"

    def weakened_to(self, kind: str) -> dict[FenceSite, str]:
        """Return what :func:`refimpl.testing.memory_order.explore` is told to weaken this fence."""
        return {(self.path, self.line): kind}


def fence_calls(path: str) -> Iterator[FenceCall]:
    """Yield every call of a fence in a file."""
    for function in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(function, ast.FunctionDef):
            calls = (node for node in ast.walk(function) if isinstance(node, ast.Call) and _kind(node))
            for number, call in enumerate(calls, 1):
                yield FenceCall(path, function.name, number, _kind(call), call.lineno)


def _kind(call: ast.Call) -> str:
    name = ast.unparse(call.func)
    return next((kind for kind in WEAKER if name in (f"self._{kind}_fence", f"self._fences.{kind}")), "")
