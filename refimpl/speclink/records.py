"""The entries of the catalogue, and what their ids and fields can be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

#: Levels of the catalogue; ``must*`` is stated as plain fact, but two ends only understand each other if it holds.
LEVELS = ("must", "must*", "should", "may", "info")
WHO = ("frontend", "backend", "toolstack")
KINDS = ("sentence", "item", "row", "layout", "code")
SEVERITIES = ("A", "B", "C")
#: What a waiver can wait for.
PLATFORMS = ("shm", "xen", "linux")

REQUIREMENT_ID = re.compile(r"[A-Z]+-[1-9][0-9]*")
SECURITY_ID = re.compile(r"SEC-[BF]-[1-9][0-9]*")
ERRATUM_ID = re.compile(r"E-[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*")


class Section(NamedTuple):
    """A heading of the document, and the module that is about it. ``level`` is 1 to 4."""

    id: str
    heading: str
    level: int
    module: str
    draft: tuple[str, ...]
    line: int


class Place(NamedTuple):
    """Where a sentence of the document stands (``at`` counts from 1 in its section) and what it says.

    Either ``says`` names requirements or ``information`` says why it names none.
    """

    section: str
    at: int
    kind: str
    sha256: str
    says: tuple[str, ...]
    information: str
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing the document asks for. ``waits_for`` names the platform that alone can show it, with a reason."""

    id: str
    section: str
    who: tuple[str, ...]
    level: str
    text: str
    shown_by: str
    waits_for: str
    reason: str
    path: str
    line: int

    @property
    def is_must(self) -> bool:
        """Whether two ends depend on it: ``must`` or ``must*``."""
        return self.level.startswith("must")


@dataclass(frozen=True, slots=True)
class Erratum:
    """A contradiction or gap of the document: the problem, what Linux does, the reading chosen."""

    id: str
    severity: str
    requirements: tuple[str, ...]
    problem: str
    linux: str
    chosen: str
    evidence: str
    waits_for: str
    reason: str
    path: str
    line: int


class SecurityRule(NamedTuple):
    """A rule against a hostile peer."""

    id: str
    who: str
    text: str
    shown_by: str
    waits_for: str
    reason: str
    path: str
    line: int


class Difference(NamedTuple):
    """What the draft of 2016 says differently in a section."""

    id: str
    section: str
    draft: str
    published: str
    effect: str


class Prototype(NamedTuple):
    """What the prototypes of 2016 did, and what follows for serving them."""

    id: str
    behaviour: str
    consequence: str


class Edition(NamedTuple):
    """An edition of the document: its device's name, the backend's nodes, the layouts it had."""

    name: str
    date: str
    device: str
    backend_nodes: str
    layout: str
