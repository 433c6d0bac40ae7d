"""Everything about one id, as text."""

from __future__ import annotations

from collections.abc import Iterable

from refimpl.speclink import coverage_file
from refimpl.speclink.catalogue import Catalogue
from refimpl.speclink.citations import Citation
from refimpl.speclink.markers import MarkedTest
from refimpl.speclink.project import Project
from refimpl.speclink.records import Place


def show(project: Project, id: str) -> str | None:
    """Return the text, or None where the id is unknown."""
    catalogue = project.catalogue
    if id in catalogue.requirements:
        rows = _requirement(project, id)
    elif id in catalogue.errata:
        rows = _erratum(project, id)
    elif id in catalogue.rules:
        rows = _rule(project, id)
    else:
        return None
    return "\n".join(rows)


def _requirement(project: Project, id: str) -> list[str]:
    catalogue = project.catalogue
    requirement = catalogue.requirements[id]
    section = catalogue.sections[requirement.section]
    who = ", ".join(requirement.who) or "nobody"
    rows = [f"{id}  {coverage_file.state_of(project, id)}  ({requirement.level}, {who})", f"  {requirement.text}"]
    rows.append(f"  stands in: {section.heading}, {_places(catalogue, id)}  ({section.module})")
    if requirement.shown_by:
        rows.append(f"  shown by: {requirement.shown_by}")
    if requirement.waits_for:
        rows.append(f"  waits for {requirement.waits_for}: {requirement.reason}")
    for erratum_id in catalogue.errata_of.get(id, []):
        erratum = catalogue.errata[erratum_id]
        rows.append(f"  erratum {erratum_id} ({erratum.severity}): {erratum.chosen}")
    for difference in (catalogue.differences[d] for d in section.draft):
        rows.append(f"  draft {difference.id}: {difference.draft} Published: {difference.published}")
    return rows + _ties(project, id, "spec")


def _erratum(project: Project, id: str) -> list[str]:
    erratum = project.catalogue.errata[id]
    standing = project.errata[id]
    platforms = coverage_file.platforms_of(project, id)
    state = f"pinned on {', '.join(platforms)}" if platforms else "not pinned"
    rows = [f"{id}  severity {erratum.severity}, {state}", f"  problem:  {erratum.problem}"]
    if erratum.linux:
        rows.append(f"  Linux:    {erratum.linux}")
    rows += [f"  chosen:   {erratum.chosen}", f"  evidence: {erratum.evidence}"]
    if erratum.waits_for:
        rows.append(f"  waits for {erratum.waits_for}: {erratum.reason}")
    rows.append(f"  requirements: {', '.join(erratum.requirements)}")
    deciding = [c for c in project.citations if id in (c.id, *c.errata)]
    rows += _code(project, deciding)
    rows += _tests(standing.tests, {t for tests in standing.proofs.values() for t in tests})
    return rows


def _rule(project: Project, id: str) -> list[str]:
    rule = project.catalogue.rules[id]
    rows = [f"{id}  {coverage_file.state_of(project, id)}  ({rule.who})", f"  {rule.text}"]
    rows.append(f"  shown by: {rule.shown_by}")
    if rule.waits_for:
        rows.append(f"  waits for {rule.waits_for}: {rule.reason}")
    return rows + _ties(project, id, "security")


def _places(catalogue: Catalogue, id: str) -> str:
    def name(place: Place) -> str:
        return f"{place.kind} {place.at}"

    return ", ".join(name(place) for place in catalogue.places_of.get(id, []))


def _ties(project: Project, id: str, kind: str) -> list[str]:
    standing = project.standings[id]
    proving = {test for tests in standing.proofs.values() for test in tests}
    rows = _code(project, standing.citations) + _tests(standing.tests, proving)
    platforms = coverage_file.platforms_of(project, id)
    if platforms:
        rows.append(f"  proved on: {', '.join(platforms)}")
    return rows


def _code(project: Project, citations: Iterable[Citation]) -> list[str]:
    texts = {source.path: source.text.splitlines() for source in project.sources}
    rows = []
    for citation in citations:
        number, _ = citation.shown
        line = texts[citation.path][number - 1].strip()
        under = f"  under {', '.join(citation.errata)}" if citation.errata else ""
        rows.append(f"  code: {citation.path}:{number}{under}\n        {line}")
    return rows or ["  code: none"]


def _tests(tests: Iterable[MarkedTest], proving: set[str]) -> list[str]:
    rows = []
    for test in tests:
        mark = "proves" if test.node in proving else "names "
        rows.append(f"  test: {mark}  {test.path}:{test.line}  {test.name}")
    return rows or ["  test: none"]
