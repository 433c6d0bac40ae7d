"""Find the citations in the code: comments that begin with ids, and the statement each stands on.

A citation is ``# CONNECT-7``, ``# CONNECT-7, CONNECT-8 (E-MAPFAIL)`` or ``# CONNECT-7: why``, at the end of any line of
the statement or on a line of its own directly above it. On a compound statement it cites the header alone; on ``def``
the first statement of the body; on ``else:``, ``except:`` and ``case:`` the first statement below.

A statement that runs at import is a *definition*: it is used wherever what it defines is named.

An id anywhere else, in prose or in a docstring, is a mention: it must exist, and proves nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from refimpl.speclink.catalogue import Catalogue
from refimpl.speclink.findings import Finding
from refimpl.speclink.records import ERRATUM_ID, REQUIREMENT_ID, SECURITY_ID
from refimpl.speclink.statements import Statement, Statements

_ERRATUM = ERRATUM_ID.pattern
_ID = rf"(?:{SECURITY_ID.pattern}|{_ERRATUM}|{REQUIREMENT_ID.pattern})(?![\w-])"
_ERRATA = rf"\(\s*{_ERRATUM}(?:\s*,\s*{_ERRATUM})*\s*\)"
_ITEM = rf"{_ID}(?:\s*{_ERRATA})?|{_ERRATA}"
_CITING = re.compile(rf"#\s*(?:{_ITEM})(?:\s*,\s*(?:{_ITEM}))*(?=\s*(?:$|[:;.]))")
_BEGINNING = re.compile(rf"#+\s*\(?{_ID}")
_EACH = re.compile(_ID)
_GROUP = re.compile(_ERRATA)
_MENTION = re.compile(rf"(?<![\w-]){_ID}")
_IN_COMMENT = re.compile(rf"#.*{_MENTION.pattern}")
#: The package whose own words about citations are no citations.
_OURSELVES = "refimpl/speclink/"


class Citation(NamedTuple):
    """One id on one statement. ``line`` is the comment's."""

    id: str
    errata: tuple[str, ...]
    path: str
    line: int
    statement: Statement

    @property
    def key(self) -> str:
        """The statement's name in evidence: ``path:first line``."""
        return f"{self.path}:{self.statement.first}"

    @property
    def is_definition(self) -> bool:
        """Whether it runs at import, so that a test uses it by naming what it defines."""
        return bool(self.statement.names)

    @property
    def shown(self) -> tuple[int, int]:
        """The first and last line to show a reader: the statement's, of a table the entry that cites."""
        first, last = self.statement.first, self.statement.last
        return (self.line, self.line) if self.is_definition and first < self.line < last else (first, last)


class Mention(NamedTuple):
    """An id in prose."""

    id: str
    path: str
    line: int


class Source(NamedTuple):
    """What one file says."""

    path: str
    text: str
    citations: list[Citation]
    mentions: list[Mention]
    findings: list[Finding]


def scan(project: Path, catalogue: Catalogue) -> list[Source]:
    """Scan ``refimpl/`` for citations, and ``tests/`` for mentions; unknown ids are findings."""
    sources = [_scan(project, path, catalogue) for path in python_files(project, "refimpl")]
    sources += [_scan(project, path, catalogue, citing=False) for path in python_files(project, "tests")]
    return [source for source in sources if source is not None]


def python_files(project: Path, folder: str) -> Iterator[str]:
    """Yield the Python files below a folder, relative to the project, in order."""
    for path in sorted((project / folder).rglob("*.py")):
        yield path.relative_to(project).as_posix()


def _scan(project: Path, path: str, catalogue: Catalogue, *, citing: bool = True) -> Source | None:
    if path.startswith((_OURSELVES, "tests/speclink/")):
        return None
    return scan_text(path, (project / path).read_text(encoding="utf-8"), catalogue, citing=citing)


def scan_text(path: str, text: str, catalogue: Catalogue, *, citing: bool = True) -> Source:
    """Scan one file's text."""
    source = Source(path, text, [], [], [])
    # Only what cites, or names an id that is not there, is worth the parsing.
    has_unknown_ids = any(id not in catalogue and _is_ours(id, catalogue) for id in _MENTION.findall(text))
    if not has_unknown_ids and not (citing and _IN_COMMENT.search(text)):
        return source
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        source.findings.append(Finding(path, error.lineno or 0, f"is no Python: {error.msg}"))
        return source
    lines = text.splitlines()
    statements = Statements(tree) if citing else None
    for line, column in _comments(tree, lines):
        comment = lines[line - 1][column:]
        cited = _CITING.match(comment) if citing else None
        if cited:
            _cite(source, cited[0], line, column, lines, statements)
        elif citing and _BEGINNING.match(comment) and lines[line - 1][:column].strip():
            message = f"{comment!r} begins with an id and is no citation: `# ID`, `# ID, ID (E-ID)` or `# ID: why`"
            source.findings.append(Finding(path, line, message))
        for mention in _MENTION.finditer(comment[cited.end() if cited else 0 :]):
            source.mentions.append(Mention(mention[0], path, line))
    if has_unknown_ids:
        source.mentions.extend(_mentions_in_strings(tree, path, citing))
    _check_ids(source, catalogue)
    return source


def _comments(tree: ast.AST, lines: list[str]) -> Iterator[tuple[int, int]]:
    """Yield line and column of each comment that has an id in it: a ``#`` outside of every string."""
    strings: list[tuple[tuple[int, int], tuple[int, int]]] | None = None
    for number, line in enumerate(lines, 1):
        start = line.find("#")
        if start < 0 or not _MENTION.search(line, start):
            continue
        if strings is None:
            strings = _string_spans(tree)
        while start >= 0:
            at = (number, len(line[:start].encode()))
            if not any(first <= at < last for first, last in strings):
                yield number, start
                break
            start = line.find("#", start + 1)


def _string_spans(tree: ast.AST) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    spans = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)):
            end = (node.end_lineno or node.lineno, node.end_col_offset or 0)
            spans.append(((node.lineno, node.col_offset), end))
    return spans


def _cite(source: Source, cited: str, line: int, column: int, lines: list[str], statements: Statements | None) -> None:
    errata = tuple(id for group in _GROUP.findall(cited) for id in _EACH.findall(group))
    ids = _EACH.findall(_GROUP.sub("", cited)) or list(errata)
    target = line
    if not lines[line - 1][:column].strip():
        while target <= len(lines) and lines[target - 1].lstrip().startswith("#"):
            target += 1
        if target > len(lines) or not lines[target - 1].strip():
            source.findings.append(Finding(source.path, line, f"{cited!r} stands on no statement"))
            return
    statement = statements.at(target) if statements else None
    if statement is None:
        source.findings.append(Finding(source.path, line, f"{cited!r} stands on no statement"))
        return
    for id in ids:
        source.citations.append(Citation(id, errata, source.path, line, statement))


def _mentions_in_strings(tree: ast.AST, path: str, everywhere: bool) -> Iterator[Mention]:
    """Yield the ids in docstrings, and in strings that are an id and nothing else."""
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docstrings.add(id(node.value))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for match in _MENTION.finditer(node.value):
                if id(node) in docstrings or (everywhere and match[0] == node.value):
                    line = node.lineno + node.value.count("\n", 0, match.start())
                    yield Mention(match[0], path, line)


def _check_ids(source: Source, catalogue: Catalogue) -> None:
    for citation in source.citations:
        for id in {citation.id, *citation.errata} - {""}:
            if id not in catalogue:
                source.findings.append(Finding(source.path, citation.line, f"cites {id}, which is not in spec/"))
    for mention in source.mentions:
        if mention.id not in catalogue and _is_ours(mention.id, catalogue):
            message = f"mentions {mention.id}, which is not in spec/"
            source.findings.append(Finding(source.path, mention.line, message))


def _is_ours(id: str, catalogue: Catalogue) -> bool:
    """Say whether this looks like one of our ids: prose also has CVE-2020, UTF-8 and E-mail."""
    if SECURITY_ID.fullmatch(id) or id.rpartition("-")[0] in catalogue.prefixes:
        return True
    return bool(ERRATUM_ID.fullmatch(id)) and not REQUIREMENT_ID.fullmatch(id)
