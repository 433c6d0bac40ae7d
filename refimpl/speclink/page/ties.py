"""The page's data: sources, the citing lines in them, and the tests, for the script to show."""

from __future__ import annotations

import ast
from typing import Any

from refimpl.speclink.markers import MarkedTest
from refimpl.speclink.project import Project


def data(project: Project) -> dict[str, Any]:
    """Return what the script needs.

    ``has_run``: whether a recorded run says which tests prove what. ``files``: path -> text of every file that cites.
    ``marks``: path -> [comment's line, first, last, ids, errata].
    ``tests``: path, line, name, source, platforms proved on. ``ties``: id -> its code (path, first, last, within) and
    the numbers of its tests with the platforms each proves it on.
    """
    tests = _Tests(project)
    texts = {source.path: source.text for source in project.sources if source.citations}
    marks: dict[str, dict[tuple[int, int, int], list[Any]]] = {path: {} for path in texts}
    for c in project.citations:
        at = (c.line, c.statement.first, c.statement.last)
        mark = marks[c.path].setdefault(at, [*at, [], []])
        mark[3].append(c.id)
        mark[4] += [e for e in c.errata if e not in mark[4]]
    ids = [*project.catalogue.requirements, *project.catalogue.rules]
    found = {id: _tie(project, id, tests) for id in ids}
    for id in project.catalogue.errata:
        found[id] = _erratum_tie(project, id, tests)
    return {
        "files": texts,
        "marks": {path: list(by_place.values()) for path, by_place in marks.items()},
        "ties": {id: tie for id, tie in found.items() if tie["code"] or tie["tests"]},
        "tests": tests.found,
        "has_run": project.has_states_of_its_own,
    }


def _tie(project: Project, id: str, tests: _Tests) -> dict[str, Any]:
    standing = project.standings[id]
    proofs = {test: [p for p, names in standing.proofs.items() if test in names] for test in _all(standing.proofs)}
    return {
        "code": [[c.path, *c.shown, c.statement.within] for c in standing.citations],
        "tests": [[tests.number(test), proofs.get(test.node, [])] for test in standing.tests],
    }


def _erratum_tie(project: Project, id: str, tests: _Tests) -> dict[str, Any]:
    standing = project.errata[id]
    proofs = {test: [p for p, names in standing.proofs.items() if test in names] for test in _all(standing.proofs)}
    code = [c for c in project.citations if id in (c.id, *c.errata)]
    places = dict.fromkeys((c.path, *c.shown, c.statement.within) for c in code)
    return {
        "code": [list(place) for place in places],
        "tests": [[tests.number(test), proofs.get(test.node, [])] for test in standing.tests],
    }


def _all(proofs: dict[str, list[str]]) -> set[str]:
    return {test for names in proofs.values() for test in names}


class _Tests:
    """The tests that are shown, each once, with their source."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._numbers: dict[str, int] = {}
        self._sources: dict[str, dict[str, str]] = {}
        self.found: list[dict[str, Any]] = []

    def number(self, test: MarkedTest) -> int:
        """Return the test's place in :attr:`found`."""
        if test.node not in self._numbers:
            self._numbers[test.node] = len(self.found)
            source = self._functions(test.path).get(test.name, "")
            self.found.append({"path": test.path, "line": test.line, "name": test.name, "source": source})
        return self._numbers[test.node]

    def _functions(self, path: str) -> dict[str, str]:
        if path not in self._sources:
            text = (self._project.root / path).read_text(encoding="utf-8")
            lines = text.splitlines()
            self._sources[path] = dict(_functions(ast.parse(text).body, lines, ""))
        return self._sources[path]


def _functions(body: list[ast.stmt], lines: list[str], prefix: str) -> list[tuple[str, str]]:
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.append((prefix + node.name, "\n".join(lines[first - 1 : node.end_lineno])))
        elif isinstance(node, ast.ClassDef):
            found += _functions(node.body, lines, f"{prefix}{node.name}::")
    return found
