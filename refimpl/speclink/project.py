"""Everything known of one project, read when it is first asked for."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from refimpl.speclink import catalogue, citations, markers, mutants, states
from refimpl.speclink.citations import Citation
from refimpl.speclink.evidence import Evidence, carried_over, read_all
from refimpl.speclink.findings import Finding

#: Where runs are recorded; not checked in. Those of the platform that every machine has are read by default.
EVIDENCE_FOLDER = "build/evidence"
EVIDENCE_FILES = "shm*.json"
#: Runs kept (``refimpl spec keep``) for platforms that not every machine has; checked in.
RECORDED_FOLDER = "spec/evidence"


class NoProject(Exception):
    """There is no project here: no ``spec/sections.toml`` in this folder or above."""


def find(start: Path) -> Path:
    """Return the project's folder, ``start`` or above it. Raises NoProject."""
    for folder in (start, *start.parents):
        if (folder / "spec" / "sections.toml").is_file():
            return folder
    raise NoProject(f"{start}: no spec/sections.toml in this folder or above")


class Project:
    """A project's catalogue, citations, tests and evidence. ``findings`` grows as its parts are read.

    Without ``evidence_files`` the runs recorded in ``build/evidence`` count as long as they are about the sources as
    they are; those that are not are passed over.
    """

    def __init__(self, root: Path, evidence_files: Sequence[Path] = ()) -> None:
        self.root = root
        self._evidence_files = evidence_files
        self.findings: list[Finding] = []

    @functools.cached_property
    def catalogue(self) -> catalogue.Catalogue:
        """What is under ``spec/``."""
        loaded = catalogue.load(self.root)
        self.findings += loaded.findings
        return loaded

    @functools.cached_property
    def sources(self) -> list[citations.Source]:
        """The scanned files."""
        scanned = citations.scan(self.root, self.catalogue)
        for source in scanned:
            self.findings += source.findings
        return scanned

    @functools.cached_property
    def citations(self) -> list[citations.Citation]:
        """Every citation in the code."""
        return [citation for source in self.sources for citation in source.citations]

    @functools.cached_property
    def tests(self) -> list[markers.MarkedTest]:
        """Every marked test."""
        return markers.scan(self.root, self.catalogue, self.findings)

    @functools.cached_property
    def evidence(self) -> list[Evidence]:
        """The runs recorded on this machine, and those kept for other platforms."""
        kept = sorted((self.root / RECORDED_FOLDER).glob("*.json"))
        runs = [carried_over(run, self.sources) for run in self._read(kept, check=False)]
        if self._evidence_files:
            return runs + self._read(self._evidence_files)
        passed_over: list[Finding] = []
        local = sorted((self.root / EVIDENCE_FOLDER).glob(EVIDENCE_FILES))
        return runs + read_all(self.root, local, passed_over)

    @property
    def has_evidence_of_its_own(self) -> bool:
        """Whether certain runs were asked for."""
        return bool(self._evidence_files)

    def _read(self, files: Sequence[Path], *, check: bool = True) -> list[Evidence]:
        return read_all(self.root, files, self.findings, check=check)

    @property
    def has_whole_run(self) -> bool:
        """Whether a run with every test in it is among the evidence."""
        return any(run.is_whole for run in self.evidence)

    @property
    def has_states_of_its_own(self) -> bool:
        """Whether the evidence decides the states: a whole run, or runs that were asked for. Else the checked-in do."""
        return self.has_whole_run or self.has_evidence_of_its_own

    @functools.cached_property
    def survivors(self) -> list[Citation]:
        """Citations whose statement can be removed without a naming test failing."""
        return mutants.survivors(self.root, self.citations, self.tests, self.findings)

    @functools.cached_property
    def standings(self) -> dict[str, states.Standing]:
        """Where each requirement and security rule stands."""
        return states.standings(self.catalogue, self.citations, self.tests, self.evidence, self.survivors)

    @functools.cached_property
    def errata(self) -> dict[str, states.ErratumStanding]:
        """Which errata are pinned."""
        return states.errata_standings(self.catalogue, self.tests, self.evidence)
