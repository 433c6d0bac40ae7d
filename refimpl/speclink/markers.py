"""Read the tests' markers without running or importing anything.

``@pytest.mark.spec("CONNECT-7")`` on a function or class, in ``pytestmark``, or in ``pytest.param(..., marks=...)``;
also through a name bound in the same file. Ids are literal strings.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from refimpl.speclink.catalogue import Catalogue
from refimpl.speclink.citations import python_files
from refimpl.speclink.findings import Finding

#: A test that names more requirements than this proves none.
MOST_IDS = 4
MARKERS = ("spec", "erratum", "security")


class Marker(NamedTuple):
    """One id on one test. ``kind`` is the marker's name; ``in_parameters`` if only some of its cases carry it."""

    kind: str
    id: str
    line: int
    in_parameters: bool


class MarkedTest(NamedTuple):
    """A test function with the markers that apply to it. ``name`` is as pytest has it, without parameters."""

    path: str
    name: str
    line: int
    markers: tuple[Marker, ...]

    @property
    def node(self) -> str:
        """The name pytest gives of the test, without parameters."""
        return f"{self.path}::{self.name}"

    def ids(self, kind: str) -> list[str]:
        """Return the ids of one kind of marker, each once."""
        return list(dict.fromkeys(m.id for m in self.markers if m.kind == kind))


def known_ids(catalogue: Catalogue, kind: str) -> Collection[str]:
    """Return the ids that a kind of marker can name."""
    if kind == "spec":
        return catalogue.requirements.keys()
    return catalogue.errata.keys() if kind == "erratum" else catalogue.rules.keys()


def scan(project: Path, catalogue: Catalogue, findings: list[Finding]) -> list[MarkedTest]:
    """Return every marked test below ``tests/``; unknown ids and tests that name too many are findings."""
    found: list[MarkedTest] = []
    for path in python_files(project, "tests"):
        text = (project / path).read_text(encoding="utf-8")
        if any(f"mark.{marker}" in text for marker in MARKERS):
            found += scan_text(path, text, findings)
    for test in found:
        _check(test, catalogue, findings)
    return found


def scan_text(path: str, text: str, findings: list[Finding]) -> list[MarkedTest]:
    """Return the marked tests of one file."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        findings.append(Finding(path, error.lineno or 0, f"is no Python: {error.msg}"))
        return []
    return list(_Reader(path, tree, findings).tests())


def _check(test: MarkedTest, catalogue: Catalogue, findings: list[Finding]) -> None:
    for marker in test.markers:
        if marker.id not in known_ids(catalogue, marker.kind):
            message = f"{test.name} names {marker.id}, which is no {marker.kind} id of spec/"
            findings.append(Finding(test.path, marker.line, message))
    named = {m.id for m in test.markers if m.kind == "spec" and not m.in_parameters}
    if len(named) > MOST_IDS:
        message = f"{test.name} names {len(named)} requirements: more than {MOST_IDS} prove none"
        findings.append(Finding(test.path, test.line, message))


class _Reader:
    def __init__(self, path: str, tree: ast.Module, findings: list[Finding]) -> None:
        self.path = path
        self.tree = tree
        self.findings = findings
        self.bound: dict[str, list[Marker]] = {}

    def tests(self) -> Iterator[MarkedTest]:
        """Yield the file's marked tests."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target = node.targets[0]
                if isinstance(target, ast.Name):
                    self.bound[target.id] = list(self._markers(node.value))
        yield from self._of_block(self.tree.body, "", self.bound.get("pytestmark", []))

    def _of_block(self, body: list[ast.stmt], prefix: str, outer: list[Marker]) -> Iterator[MarkedTest]:
        for node in body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                markers = outer + self._decorating(node) + self._pytestmark(node)
                yield from self._of_block(node.body, f"{prefix}{node.name}::", markers)
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                markers = outer + self._decorating(node)
                if markers:
                    name = f"{prefix}{node.name}"
                    yield MarkedTest(self.path, name, node.lineno, tuple(markers))

    def _pytestmark(self, node: ast.ClassDef) -> list[Marker]:
        found: list[Marker] = []
        for part in node.body:
            if isinstance(part, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == "pytestmark" for target in part.targets
            ):
                found += self._markers(part.value)
        return found

    def _decorating(self, node: ast.ClassDef | ast.FunctionDef) -> list[Marker]:
        return [marker for decorator in node.decorator_list for marker in self._markers(decorator)]

    def _markers(self, node: ast.expr) -> Iterator[Marker]:
        """Yield the markers in an expression, those inside a call of ``param`` as such."""
        yield from self._walk(node, in_parameters=False)

    def _walk(self, node: ast.AST, *, in_parameters: bool) -> Iterator[Marker]:
        if isinstance(node, ast.Name) and node.id in self.bound:
            yield from (m._replace(in_parameters=m.in_parameters or in_parameters) for m in self.bound[node.id])
            return
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "param":
                in_parameters = True
            if node.func.attr in MARKERS and getattr(node.func.value, "attr", "") == "mark":
                yield from self._ids(node, node.func.attr, in_parameters)
                return
        for child in ast.iter_child_nodes(node):
            yield from self._walk(child, in_parameters=in_parameters)

    def _ids(self, node: ast.Call, kind: str, in_parameters: bool) -> Iterator[Marker]:
        if not node.args or node.keywords:
            self.findings.append(Finding(self.path, node.lineno, f"{kind} marker names no id"))
        for argument in node.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield Marker(kind, argument.value, argument.lineno, in_parameters)
            else:
                self.findings.append(Finding(self.path, argument.lineno, f"ids of a {kind} marker are literal strings"))
