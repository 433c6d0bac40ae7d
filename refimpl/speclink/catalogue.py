"""Load ``spec/`` strictly: sections, requirements, errata, security rules, and the draft's differences.

Loading never stops at a mistake: what is wrong becomes a :class:`~refimpl.speclink.findings.Finding` with its file and
line, and the rest is still there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refimpl.speclink.findings import Finding
from refimpl.speclink.records import (
    ERRATUM_ID,
    KINDS,
    LEVELS,
    PLATFORMS,
    REQUIREMENT_ID,
    SECURITY_ID,
    SEVERITIES,
    WHO,
    Difference,
    Edition,
    Erratum,
    Place,
    Prototype,
    Requirement,
    Section,
    SecurityRule,
)
from refimpl.speclink.toml_file import Entry, TomlFile, read_toml

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass
class Catalogue:
    """Everything under ``spec/``; the dictionaries keep the document's order."""

    document: Mapping[str, str] = field(default_factory=dict)
    sections: dict[str, Section] = field(default_factory=dict)
    requirements: dict[str, Requirement] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    errata: dict[str, Erratum] = field(default_factory=dict)
    rules: dict[str, SecurityRule] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)
    prototypes: list[Prototype] = field(default_factory=list)
    editions: list[Edition] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    #: False if a file is missing or malformed: then nobody can say which ids are unknown.
    is_readable: bool = True

    def __contains__(self, id: str) -> bool:
        return id in self.requirements or id in self.errata or id in self.rules

    @functools.cached_property
    def prefixes(self) -> frozenset[str]:
        """What the requirements' ids start with, such as ``CONNECT``."""
        return frozenset(id.rpartition("-")[0] for id in self.requirements)

    @functools.cached_property
    def errata_of(self) -> dict[str, list[str]]:
        """The errata that touch a requirement."""
        found: dict[str, list[str]] = {}
        for erratum in self.errata.values():
            for id in erratum.requirements:
                found.setdefault(id, []).append(erratum.id)
        return found

    @functools.cached_property
    def places_of(self) -> dict[str, list[Place]]:
        """The sentences a requirement stands on, in the document's order."""
        found: dict[str, list[Place]] = {}
        for place in self.places:
            for id in place.says:
                found.setdefault(id, []).append(place)
        return found

    def by_section(self) -> Iterator[tuple[Section, list[Requirement]]]:
        """Yield each section with its requirements, in the document's order."""
        for section in self.sections.values():
            yield section, [r for r in self.requirements.values() if r.section == section.id]


def load(project: Path) -> Catalogue:
    """Load ``project/spec``; mistakes are in the result's ``findings``."""
    catalogue = Catalogue()
    loader = _Loader(project, catalogue)
    loader.sections()
    loader.errata()
    loader.security()
    loader.drafts()
    loader.requirements()
    if catalogue.is_readable:
        loader.references()
    return catalogue


class _Loader:
    def __init__(self, project: Path, catalogue: Catalogue) -> None:
        self.project = project
        self.catalogue = catalogue
        self.findings = catalogue.findings
        self.lines_of: dict[str, str] = {}

    def _read(self, name: str) -> TomlFile:
        file = read_toml(self.project, f"spec/{name}", self.findings)
        self.catalogue.is_readable &= file.is_readable
        return file

    def _new(self, entry: Entry, id: str, pattern: re.Pattern[str]) -> bool:
        """Say whether the id is well formed and seen for the first time."""
        if not pattern.fullmatch(id):
            entry.complain(f"{id!r} is no id of this kind")
            return False
        if id in self.lines_of:
            entry.complain(f"{id} is there twice, first at {self.lines_of[id]}")
            return False
        self.lines_of[id] = f"{entry.path}:{entry.line}"
        return True

    def sections(self) -> None:
        file = self._read("sections.toml")
        file.allow("document", "section")
        self.catalogue.document = {k: str(v) for k, v in file.table("document").items()}
        for entry in file.entries("section"):
            section = Section(
                id=entry.text("id"),
                heading=entry.text("heading"),
                level=entry.number("level"),
                module=entry.text("module"),
                draft=entry.texts("draft", needed=False),
                line=entry.line,
            )
            entry.finish()
            if section.id in self.catalogue.sections:
                entry.complain(f"section {section.id!r} is there twice")
            elif section.id:
                self.catalogue.sections[section.id] = section

    def requirements(self) -> None:
        folder = self.project / "spec" / "requirements"
        files = {path.stem for path in folder.glob("*.toml")} if folder.is_dir() else set()
        for stem in sorted(files - set(self.catalogue.sections)):
            self.findings.append(Finding(f"spec/requirements/{stem}.toml", 0, f"no section {stem!r} in sections.toml"))
        for section in self.catalogue.sections.values():
            if section.id in files:
                self._section(section)

    def _section(self, section: Section) -> None:
        file = self._read(f"requirements/{section.id}.toml")
        file.allow("section", "prefix", "requirement", "document")
        prefix = file.text("prefix")
        if file.text("section") != section.id:
            file.complain(f"section must be {section.id!r}, as the file is called")
        for entry in file.entries("requirement"):
            self._requirement(section, prefix, entry)
        for entry in file.entries("document", "sentences"):
            self._place(section, entry)
        placed = [p for p in self.catalogue.places if p.section == section.id]
        for expected, place in enumerate(placed, 1):
            if place.at != expected:
                file.complain(f"sentence {place.at} stands where {expected} belongs", place.line)
                break

    def _requirement(self, section: Section, prefix: str, entry: Entry) -> None:
        requirement = Requirement(
            id=entry.text("id"),
            section=section.id,
            who=entry.texts("who", WHO),
            level=entry.text("level", LEVELS),
            text=entry.text("text"),
            shown_by=entry.text("shown_by", needed=False),
            waits_for=entry.text("waits_for", PLATFORMS, needed=False),
            reason=entry.text("reason", needed=False),
            path=entry.path,
            line=entry.line,
        )
        entry.finish()
        _check_waiver(entry, requirement.waits_for, requirement.reason)
        if not self._new(entry, requirement.id, REQUIREMENT_ID):
            return
        if not requirement.id.startswith(prefix + "-"):
            entry.complain(f"{requirement.id}: ids of this section start with {prefix}-")
        self.catalogue.requirements[requirement.id] = requirement

    def _place(self, section: Section, entry: Entry) -> None:
        place = Place(
            section=section.id,
            at=entry.number("at"),
            kind=entry.text("kind", KINDS),
            sha256=entry.text("sha256"),
            says=entry.texts("says", needed=False),
            information=entry.text("information", needed=False),
            path=entry.path,
            line=entry.line,
        )
        entry.finish()
        if bool(place.says) == bool(place.information):
            entry.complain(f"sentence {place.at} says a requirement or is information: one of the two")
        if not _SHA256.fullmatch(place.sha256):
            entry.complain(f"sentence {place.at}: sha256 is not 64 hex digits")
        self.catalogue.places.append(place)

    def errata(self) -> None:
        file = self._read("errata.toml")
        file.allow("erratum")
        for entry in file.entries("erratum"):
            erratum = Erratum(
                id=entry.text("id"),
                severity=entry.text("severity", SEVERITIES),
                requirements=entry.texts("requirements"),
                problem=entry.text("problem"),
                linux=entry.text("linux", needed=False),
                chosen=entry.text("chosen"),
                evidence=entry.text("evidence"),
                waits_for=entry.text("waits_for", PLATFORMS, needed=False),
                reason=entry.text("reason", needed=False),
                path=entry.path,
                line=entry.line,
            )
            entry.finish()
            _check_waiver(entry, erratum.waits_for, erratum.reason)
            if self._new(entry, erratum.id, ERRATUM_ID):
                self.catalogue.errata[erratum.id] = erratum

    def security(self) -> None:
        file = self._read("security.toml")
        file.allow("rule")
        for entry in file.entries("rule"):
            rule = SecurityRule(
                id=entry.text("id"),
                who=entry.text("who", WHO),
                text=entry.text("text"),
                shown_by=entry.text("shown_by", needed=False),
                waits_for=entry.text("waits_for", PLATFORMS, needed=False),
                reason=entry.text("reason", needed=False),
                path=entry.path,
                line=entry.line,
            )
            entry.finish()
            _check_waiver(entry, rule.waits_for, rule.reason)
            if self._new(entry, rule.id, SECURITY_ID):
                self.catalogue.rules[rule.id] = rule

    def drafts(self) -> None:
        file = self._read("drafts.toml")
        file.allow("difference", "prototype", "edition")
        for entry in file.entries("difference"):
            difference = Difference(
                id=entry.text("id"),
                section=entry.text("section", tuple(self.catalogue.sections)),
                draft=entry.text("draft"),
                published=entry.text("published"),
                effect=entry.text("effect"),
            )
            entry.finish()
            self.catalogue.differences[difference.id] = difference
        for entry in file.entries("prototype"):
            self.catalogue.prototypes.append(Prototype(*(entry.text(name) for name in Prototype._fields)))
            entry.finish()
        for entry in file.entries("edition"):
            self.catalogue.editions.append(Edition(*(entry.text(name) for name in Edition._fields)))
            entry.finish()

    def references(self) -> None:
        """Check what one entry says of another."""
        catalogue = self.catalogue
        for place in catalogue.places:
            self._known(place.says, catalogue.requirements, place.path, place.line)
        for erratum in catalogue.errata.values():
            self._known(erratum.requirements, catalogue.requirements, erratum.path, erratum.line)
        for section in catalogue.sections.values():
            self._known(section.draft, catalogue.differences, "spec/sections.toml", section.line)
        for requirement in catalogue.requirements.values():
            if requirement.id not in catalogue.places_of:
                message = f"{requirement.id} stands on no sentence of the document"
                self.findings.append(Finding(requirement.path, requirement.line, message))

    def _known(self, ids: Iterable[str], known: Mapping[str, Any], path: str, line: int) -> None:
        for id in ids:
            if id not in known:
                self.findings.append(Finding(path, line, f"there is no {id}"))


def _check_waiver(entry: Entry, waits_for: str, reason: str) -> None:
    if bool(waits_for) != bool(reason):
        entry.complain("waits_for and reason come together")
