"""Prepare the code of modules whose citations are to be watched: a probe in front of each statement of interest.

The probe says that the statement was reached. It changes nothing else: line numbers stay, and so does every module
that has nothing to watch.
"""

from __future__ import annotations

import ast
import marshal
from collections.abc import Iterable, Mapping
from pathlib import Path

from refimpl.speclink.loader import RAN, SEEN, code_file
from refimpl.speclink.statements import is_docstring

_PROBE = f"if {{key!r}} not in {SEEN}: {RAN}({{key!r}})"


def module_name(path: str) -> str:
    """Return the dotted name of ``refimpl/commands/connect.py``."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def prepare(project: Path, plan: Mapping[str, Iterable[int]], folder: Path, *, seen_as: Path | None = None) -> None:
    """Write prepared code into ``folder`` for every file of the plan: path -> first lines of statements.

    Tracebacks will say that the project is at ``seen_as``.
    """
    for path, lines in plan.items():
        file = project / path
        name = str((seen_as or project) / path)
        code = compile(with_probes(file.read_text(encoding="utf-8"), path, lines), name, "exec")
        Path(code_file(str(folder), module_name(path))).write_bytes(marshal.dumps(code))


def with_probes(text: str, path: str, lines: Iterable[int]) -> ast.Module:
    """Parse a module and put a probe in front of each statement in a function that starts on one of the lines."""
    tree = ast.parse(text, path)
    _Prober(path, frozenset(lines)).visit(tree)
    return ast.fix_missing_locations(tree)


class _Prober(ast.NodeTransformer):
    def __init__(self, path: str, lines: frozenset[int]) -> None:
        self._path = path
        self._lines = lines
        self._depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if self._depth:
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                if isinstance(block, list) and not isinstance(node, ast.ClassDef):
                    setattr(node, name, [new for old in block for new in self._probed(old)])
        return node

    def _probed(self, node: ast.stmt) -> list[ast.stmt]:
        if node.lineno not in self._lines or is_docstring(node):
            return [node]
        (probe,) = ast.parse(_PROBE.format(key=f"{self._path}:{node.lineno}")).body
        for part in ast.walk(probe):
            ast.copy_location(part, node)
        return [probe, node]
