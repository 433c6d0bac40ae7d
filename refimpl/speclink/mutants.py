"""What mutation showed, kept in ``spec/mutations.txt``: one line a citing statement that was removed or negated.

A verdict holds as long as the statement and the tests that name its ids read the same.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from refimpl.speclink.citations import Citation
from refimpl.speclink.evidence import write_whole
from refimpl.speclink.findings import Finding
from refimpl.speclink.markers import MarkedTest

FILE = "spec/mutations.txt"
KILLED, SURVIVED = "killed", "survived"
_HEAD = """\
# Each statement that cites a `must`, removed or negated: did a test that names the requirement fail?
# Generated: nox -s mutate. verdict, the statement's hash, the tests' hash, id, file
"""


class Verdict(NamedTuple):
    """One line of the file."""

    verdict: str
    statement: str
    tests: str
    id: str
    path: str


def read(root: Path, findings: list[Finding]) -> list[Verdict]:
    """Read the verdicts; none if there is no file yet."""
    try:
        text = (root / FILE).read_text(encoding="utf-8")
    except OSError:
        return []
    verdicts = []
    for number, raw in enumerate(text.splitlines(), 1):
        if raw.startswith("#") or not raw.strip():
            continue
        fields = raw.split()
        if len(fields) != len(Verdict._fields) or fields[0] not in (KILLED, SURVIVED):
            findings.append(Finding(FILE, number, "is no line of this file"))
        else:
            verdicts.append(Verdict(*fields))
    return verdicts


def write(root: Path, verdicts: Iterable[Verdict]) -> None:
    """Write the verdicts, in the order of files and ids."""
    lines = sorted(set(verdicts), key=lambda v: (v.path, v.id, v.statement))
    rows = (f"{v.verdict:<8} {v.statement} {v.tests} {v.id:<12} {v.path}\n" for v in lines)
    write_whole(root / FILE, _HEAD + "".join(rows))


class Ledger:
    """Verdicts as they come in, written at once, beside those that still hold.

    What a verdict is about is as it was when the ledger was opened, whatever somebody edits meanwhile.
    """

    def __init__(self, root: Path, citations: Iterable[Citation], tests: Sequence[MarkedTest]) -> None:
        self._root = root
        digests = Digests(root, tests)
        self._about = {citation: digests.of(citation) for citation in citations}
        holding = set(self._about.values())
        self._verdicts = {v[1:]: v for v in read(root, []) if v[1:] in holding}

    def add(self, citation: Citation, verdict: str) -> None:
        """Keep the verdict on a citation."""
        about = self._about[citation]
        self._verdicts[about] = Verdict(verdict, *about)
        write(self._root, self._verdicts.values())


def survivors(
    root: Path, citations: Iterable[Citation], tests: Sequence[MarkedTest], findings: list[Finding]
) -> list[Citation]:
    """Return the citations whose statement survived, as it and its tests read now."""
    bad = {v[1:] for v in read(root, findings) if v.verdict == SURVIVED}
    if not bad:
        return []
    digests = Digests(root, tests)
    return [citation for citation in citations if digests.of(citation) in bad]


class Digests:
    """Hashes that say whether a verdict still holds."""

    def __init__(self, root: Path, tests: Sequence[MarkedTest]) -> None:
        self._root = root
        self._tests = tests
        self._text = functools.cache(lambda path: (root / path).read_text(encoding="utf-8"))
        self._functions = functools.cache(self._functions_of)

    def of(self, citation: Citation) -> tuple[str, str, str, str]:
        """Return the last four fields of a verdict on the citation."""
        return self.of_statement(citation), self.of_tests(citation.id), citation.id, citation.path

    def of_statement(self, citation: Citation) -> str:
        """Hash the statement and the line of it that cites."""
        lines = self._text(citation.path).splitlines()
        return _hash([citation.statement.digest(lines), " ".join(lines[citation.line - 1].split())])

    def of_tests(self, id: str) -> str:
        """Hash the functions that name the id."""
        naming = [t for t in self._tests if id in (*t.ids("spec"), *t.ids("security"))]
        return _hash(sorted(self._functions(t.path).get(t.name, "") for t in naming))

    def _functions_of(self, path: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for node in ast.parse(self._text(path)).body:
            found[getattr(node, "name", "")] = ast.unparse(node)
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef) and isinstance(node, ast.ClassDef):
                    found[f"{node.name}::{inner.name}"] = ast.unparse(inner)
        return found


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
