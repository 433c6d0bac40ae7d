"""Everything that ``refimpl spec check`` refuses."""

from __future__ import annotations

from pathlib import Path

from refimpl.speclink import coverage_file, document, mutants, pins
from refimpl.speclink.findings import Finding
from refimpl.speclink.project import Project
from refimpl.speclink.records import Requirement, SecurityRule
from refimpl.speclink.states import REFUSED, State


def check(project: Project, *, strict: bool = False, document_file: Path | None = None) -> list[Finding]:
    """Return what is wrong, in the order of files and lines.

    ``strict`` also refuses what nobody has proved yet: what CI demands of a release.
    """
    if project.catalogue.findings:
        return sorted(project.catalogue.findings)
    findings: list[Finding] = []
    _modules(project, findings)
    _waivers(project, findings)
    coverage_file.check(project, findings)
    _pins(project, document_file, findings)
    if strict:
        _whole_run(project, findings)
        _unproved(project, findings)
        _survivors(project, findings)
        _unpinned(project, findings)
    return sorted(dict.fromkeys(project.findings + findings))


def _modules(project: Project, findings: list[Finding]) -> None:
    for section in project.catalogue.sections.values():
        if not (project.root / section.module).is_file():
            message = f"heading {section.heading!r} has no module: {section.module} is not there"
            findings.append(Finding("spec/sections.toml", section.line, message))


def _waivers(project: Project, findings: list[Finding]) -> None:
    recorded = {id: line.state for id, line in coverage_file.read(project.root, []).items()}
    catalogue = project.catalogue
    entries: list[Requirement | SecurityRule] = [*catalogue.requirements.values(), *catalogue.rules.values()]
    for entry in entries:
        is_proved = bool(project.standings[entry.id].proofs) or recorded.get(entry.id) in (
            State.PROVED,
            State.DISPUTED,
        )
        if entry.waits_for and is_proved:
            message = f"{entry.id} waits for {entry.waits_for}, and is proved: take waits_for out"
            findings.append(Finding(entry.path, entry.line, message))
    for id, standing in project.errata.items():
        erratum = standing.erratum
        if erratum.waits_for and (standing.is_pinned or recorded.get(id) == "pinned"):
            message = f"{id} waits for {erratum.waits_for}, and is pinned: take waits_for out"
            findings.append(Finding(erratum.path, erratum.line, message))


def _pins(project: Project, file: Path | None, findings: list[Finding]) -> None:
    file = file or document.find_copy()
    if file is None:
        return
    try:
        headings = document.read(file)
    except (OSError, document.NotTheDocument) as error:
        findings.append(Finding(str(file), 0, str(error)))
        return
    findings += (change.finding for change in pins.compare(project.catalogue, headings))


def _whole_run(project: Project, findings: list[Finding]) -> None:
    if not project.has_whole_run:
        message = "no recorded run of all tests on these sources is at hand: pytest --evidence build/evidence/shm.json"
        findings.append(Finding("build/evidence", 0, message))


def _unproved(project: Project, findings: list[Finding]) -> None:
    for requirement in project.catalogue.requirements.values():
        state = coverage_file.state_of(project, requirement.id)
        if requirement.is_must and state in REFUSED:
            message = f"{requirement.id} ({requirement.level}) is {state}"
            findings.append(Finding(requirement.path, requirement.line, message))


def _survivors(project: Project, findings: list[Finding]) -> None:
    for citation in project.survivors:
        message = f"{citation.id}: no test that names it fails with this statement taken out ({mutants.FILE})"
        findings.append(Finding(citation.path, citation.line, message))


def _unpinned(project: Project, findings: list[Finding]) -> None:
    for id, standing in project.errata.items():
        erratum = standing.erratum
        if erratum.severity in ("A", "B") and not erratum.waits_for and not standing.tests:
            message = f"{id} (severity {erratum.severity}) has no test that pins it"
            findings.append(Finding(erratum.path, erratum.line, message))
        elif erratum.severity in ("A", "B") and project.has_whole_run and standing.tests and not standing.proofs:
            findings.append(Finding(erratum.path, erratum.line, f"{id}: no test that pins it passed"))
