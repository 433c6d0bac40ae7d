"""Which statement a line belongs to.

Spec: none; see :mod:`refimpl.speclink.citations` for the rules.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Statement(NamedTuple):
    """A statement that a citation can stand on.

    ``first`` and ``last`` are its lines, of a compound statement those of its header. ``names`` is empty for a
    statement in a function, else what it defines at import. ``within`` is the function or class around it, dotted.
    """

    first: int
    last: int
    names: tuple[str, ...]
    within: str

    def digest(self, lines: Sequence[str]) -> str:
        """Hash the statement's words and where it stands: what stays when lines move."""
        text = [self.within, *(" ".join(line.split()) for line in lines[self.first - 1 : self.last])]
        return hashlib.sha256("\n".join(text).encode()).hexdigest()[:12]


class Statements:
    """The statements of a file by line."""

    def __init__(self, tree: ast.Module) -> None:
        #: first and last line, and the statement that a comment on these lines is about.
        self._spans: list[tuple[int, int, Statement]] = []
        self._block(tree.body, "", (), in_function=False)
        self._spans.sort(key=lambda span: (span[0], -span[1]))

    def __iter__(self) -> Iterator[Statement]:
        return iter(dict.fromkeys(statement for _, _, statement in self._spans))

    def at(self, line: int) -> Statement | None:
        """Return the innermost statement on the line, else the next one below."""
        innermost: Statement | None = None
        for first, last, statement in self._spans:
            if first > line:
                return innermost or statement
            if line <= last:
                innermost = statement
        return innermost

    def _block(
        self, body: Iterable[ast.stmt], within: str, classes: tuple[str, ...], *, in_function: bool
    ) -> Statement | None:
        """Take in a block; return its first statement."""
        found = [self._statement(n, within, classes, in_function) for n in body if not is_docstring(n)]
        return next(iter(found), None)

    def _statement(self, node: ast.stmt, within: str, classes: tuple[str, ...], in_function: bool) -> Statement | None:
        inner = f"{within}.{getattr(node, 'name', '')}".strip(".")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = self._block(node.body, inner, classes, in_function=True)
            if first:
                # A comment on `def` is about the first statement of the body.
                self._spans.append((top_line(node), node.body[0].lineno - 1, first))
            return first
        if isinstance(node, ast.ClassDef):
            names = () if in_function else (*classes, node.name)[:1]
            header = self._header(node, names, inner)
            self._block(node.body, inner, (*classes, node.name), in_function=in_function)
            return header
        names = () if in_function else classes[:1] or tuple(bound_names(node))
        header = self._header(node, names, within)
        for body in inner_blocks(node):
            self._block(body, within, classes, in_function=in_function)
        return header

    def _header(self, node: ast.stmt, names: tuple[str, ...], within: str) -> Statement:
        statement = Statement(node.lineno, header_end(node), names, within)
        self._spans.append((top_line(node), max(statement.last, _line_before_block(node)), statement))
        return statement


def is_docstring(node: ast.stmt) -> bool:
    """Whether the statement is a bare string: nothing runs there."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is not ...


def top_line(node: ast.stmt) -> int:
    """Return the first line of a statement, decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def header_end(node: ast.stmt) -> int:
    """Return the last line of a simple statement, or of a compound one's header."""
    parts: list[ast.expr] = []
    match node:
        case ast.If() | ast.While():
            parts = [node.test]
        case ast.For() | ast.AsyncFor():
            parts = [node.target, node.iter]
        case ast.With() | ast.AsyncWith():
            parts = [e for item in node.items for e in (item.context_expr, item.optional_vars) if e]
        case ast.Match():
            parts = [node.subject]
        case ast.ClassDef():
            parts = [*node.bases, *(k.value for k in node.keywords)]
        case ast.Try() | ast.TryStar():
            parts = []
        case _:
            return int(node.end_lineno or node.lineno)
    return max([int(node.lineno), *(int(part.end_lineno or part.lineno) for part in parts)])


def _line_before_block(node: ast.stmt) -> int:
    """Return the line before a compound statement's block: it may hold nothing but the header's ``):``."""
    if isinstance(node, ast.Match):
        return node.cases[0].pattern.lineno - 1
    inside = next(inner_blocks(node), [])
    return top_line(inside[0]) - 1 if inside else 0


def inner_blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield the blocks directly inside a compound statement, in order."""
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        block = getattr(node, name, None)
        if not isinstance(block, list):
            continue
        if name in ("handlers", "cases"):
            for part in block:
                yield part.body
        else:
            yield block


def bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds at import; for an assignment into something, that thing's name."""
    for part in ast.walk(node):
        targets: list[ast.expr] = []
        match part:
            case ast.Assign():
                targets = part.targets
            case ast.AnnAssign() | ast.AugAssign() | ast.For():
                targets = [part.target]
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name.partition(".")[0] for alias in part.names)
        for target in targets:
            while isinstance(target, ast.Subscript | ast.Attribute):
                target = target.value
            yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
