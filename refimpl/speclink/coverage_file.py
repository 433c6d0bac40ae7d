"""``spec/coverage.txt``: the state of everything, one line each, checked in so that a review shows what changed."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from refimpl.speclink.evidence import write_whole
from refimpl.speclink.findings import Finding
from refimpl.speclink.project import Project
from refimpl.speclink.states import State

FILE = "spec/coverage.txt"
_HEAD = """\
# The state of every requirement, erratum and security rule, in the document's order.
# Generated: pytest --evidence build/evidence/shm.json && refimpl spec coverage --write
# id, level, state, platforms it is proved on, files that cite it
"""
_REMEDY = "record a run (pytest --evidence build/evidence/shm.json), then: refimpl spec coverage --write"


class Line(NamedTuple):
    """One line: what was known when the file was written."""

    id: str
    level: str
    state: str
    platforms: str
    files: str
    number: int = 0

    def __str__(self) -> str:
        text = f"{self.id:<19} {self.level:<6} {self.state:<12} {self.platforms:<14} {self.files}"
        return text.rstrip()


def render(project: Project) -> str:
    """Return the file's text as it should be now; without a run to decide by, with the states as checked in."""
    parts, known = [_HEAD], current(project)
    totals = Counter(known[id].state for id in project.catalogue.requirements)
    counted = ", ".join(f"{totals[state]} {state}" for state in reversed(State) if totals[state])
    parts.append(f"# {len(project.catalogue.requirements)} requirements: {counted}\n")
    for heading, group in _groups(project):
        parts.append(f"\n[{heading}]\n" + "".join(f"{known[line.id]}\n" for line in group))
    return "".join(parts)


def _groups(project: Project) -> Iterator[tuple[str, list[Line]]]:
    for section, requirements in project.catalogue.by_section():
        if requirements:
            yield section.heading, [_line(project, r.id, r.level) for r in requirements]
    yield (
        "errata",
        [
            Line(id, s.erratum.severity, _pinned(s.is_pinned, s.erratum.waits_for), _joined(s.platforms), "-")
            for id, s in project.errata.items()
        ],
    )
    yield "security", [_line(project, rule.id, "must*") for rule in project.catalogue.rules.values()]


def lines(project: Project) -> list[Line]:
    """Return every line as it should be now."""
    return [line for _, group in _groups(project) for line in group]


def _line(project: Project, id: str, level: str) -> Line:
    standing = project.standings[id]
    return Line(id, level, standing.state, _joined(standing.platforms), _joined(standing.files, " "))


def _joined(words: list[str], by: str = ",") -> str:
    return by.join(words) or "-"


def _pinned(is_pinned: bool, waits_for: str) -> str:
    return "pinned" if is_pinned else "waits" if waits_for else "unpinned"


def write(project: Project) -> bool:
    """Write the file; return whether it changed."""
    file = project.root / FILE
    text = render(project)
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return False
    write_whole(file, text)
    return True


def read(root: Path, findings: list[Finding]) -> dict[str, Line]:
    """Read the file as it is checked in."""
    found: dict[str, Line] = {}
    try:
        text = (root / FILE).read_text(encoding="utf-8")
    except OSError:
        findings.append(Finding(FILE, 0, f"is missing; {_REMEDY}"))
        return found
    for number, raw in enumerate(text.splitlines(), 1):
        if not raw.strip() or raw.startswith(("#", "[")):
            continue
        fields = raw.split(maxsplit=4)
        if len(fields) != 5:
            findings.append(Finding(FILE, number, "is no line of this file"))
            continue
        id, level, state, platforms, files = fields
        found[id] = Line(id, level, state, platforms, files, number)
    return found


@functools.lru_cache(maxsize=4)
def current(project: Project) -> dict[str, Line]:
    """Return each id's line: by the evidence at hand, or as checked in where there is none to decide by."""
    now = {line.id: line for line in lines(project)}
    if project.has_states_of_its_own:
        return now
    recorded = read(project.root, [])
    return {id: recorded.get(id, line) for id, line in now.items()}


def state_of(project: Project, id: str) -> State:
    """Return a requirement's or security rule's state, see :func:`current`."""
    state = current(project)[id].state
    return State(state) if state in list(State) else project.standings[id].state


def platforms_of(project: Project, id: str) -> list[str]:
    """Return where a requirement is proved, or an erratum pinned, see :func:`current`."""
    return [p for p in current(project)[id].platforms.split(",") if p != "-"]


def check(project: Project, findings: list[Finding]) -> None:
    """Find what is stale: exactly where a whole run is at hand, else as far as the sources tell."""
    recorded = read(project.root, findings)
    if not recorded:
        return
    expected = {line.id: line for line in lines(project)}
    for id in recorded.keys() - expected.keys():
        findings.append(Finding(FILE, recorded[id].number, f"stale: {id} is not in spec/; {_REMEDY}"))
    for id, line in expected.items():
        if id not in recorded:
            findings.append(Finding(FILE, 0, f"stale: {id} is not there; {_REMEDY}"))
            continue
        change = _difference(project, recorded[id], line)
        if change:
            findings.append(Finding(FILE, recorded[id].number, f"stale: {id} {change}; {_REMEDY}"))


def _difference(project: Project, old: Line, new: Line) -> str:
    """Say how a line is out of date, empty if it is not."""
    if project.has_whole_run and (old.state, old.platforms) != (new.state, new.platforms):
        return f"was {old.state} on {old.platforms}, is {new.state} on {new.platforms}"
    if old.level != new.level:
        return f"was {old.level}, is {new.level}"
    if old.files != new.files:
        return f"was cited in {old.files}, is cited in {new.files}"
    return "" if project.has_whole_run else _impossible(project, old)


def _impossible(project: Project, old: Line) -> str:
    """Say why the recorded state cannot be, by the citations and markers alone."""
    if old.id in project.errata:
        if old.state == "pinned" and not project.errata[old.id].tests:
            return "was pinned, and no test names it any more"
        return ""
    standing = project.standings[old.id]
    is_named, is_cited = bool(standing.tests), bool(standing.citations)
    needs = {
        State.OPEN: (False, False),
        State.UNTESTED: (False, True),
        State.PROVED: (True, True),
        State.DISPUTED: (True, True),
        State.EXECUTED: (True, True),
    }.get(State(old.state) if old.state in list(State) else State.WAITS)
    if needs and needs != (is_named, is_cited):
        return (
            f"was {old.state}, and now {'a' if is_named else 'no'} test names it"
            f" and {'a' if is_cited else 'no'} line cites it"
        )
    if old.state == State.HOLLOW and not is_named:
        return "was hollow, and no test names it any more"
    return ""
