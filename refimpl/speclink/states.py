"""What can be said of each requirement, from the citations, the markers, and what recorded runs showed.

open         nothing cites it and no test names it
untested     cited, and no test names it
hollow       named by a test, but no passing test reached a line that cites it
executed     reached, but the tests pass with the citing statement removed too (mutation)
proved       a passing test that names it reached a line that cites it
disputed     proved, under an erratum: the document leaves the reading open
waits        only another platform can show it, and no run there has
information  asks for nothing
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from refimpl.speclink.catalogue import Catalogue
from refimpl.speclink.citations import Citation
from refimpl.speclink.evidence import Evidence
from refimpl.speclink.markers import MOST_IDS, MarkedTest
from refimpl.speclink.records import PLATFORMS, Erratum, Requirement, SecurityRule


class State(StrEnum):
    """A requirement's state, from worst to best."""

    OPEN = "open"
    UNTESTED = "untested"
    HOLLOW = "hollow"
    EXECUTED = "executed"
    WAITS = "waits"
    DISPUTED = "disputed"
    PROVED = "proved"
    INFORMATION = "information"


#: States that CI refuses of a ``must``.
REFUSED = (State.OPEN, State.UNTESTED, State.HOLLOW, State.EXECUTED)


@dataclass
class Standing:
    """Where one requirement or security rule stands."""

    id: str
    state: State
    citations: list[Citation] = field(default_factory=list)
    tests: list[MarkedTest] = field(default_factory=list)
    #: platform -> tests that prove it there
    proofs: dict[str, list[str]] = field(default_factory=dict)

    @property
    def platforms(self) -> list[str]:
        """The platforms it is proved on."""
        return [platform for platform in PLATFORMS if platform in self.proofs]

    @property
    def files(self) -> list[str]:
        """The files that cite it."""
        return sorted({c.path for c in self.citations})


@dataclass
class ErratumStanding:
    """Whether tests pin an erratum's reading."""

    erratum: Erratum
    tests: list[MarkedTest]
    proofs: dict[str, list[str]]

    @property
    def is_pinned(self) -> bool:
        """Whether a test that names it passed."""
        return bool(self.proofs)

    @property
    def platforms(self) -> list[str]:
        """The platforms it is pinned on."""
        return [platform for platform in PLATFORMS if platform in self.proofs]


def standings(
    catalogue: Catalogue,
    citations: Iterable[Citation],
    tests: Sequence[MarkedTest],
    evidence: Iterable[Evidence],
    survivors: Iterable[Citation] = (),
) -> dict[str, Standing]:
    """Return the standing of every requirement and security rule.

    ``survivors`` are citations whose statement could be removed without any naming test failing.
    """
    cited = _group(citations)
    proofs = _proofs(cited, evidence)
    survived = {citation.id for citation in survivors}
    found: dict[str, Standing] = {}
    named = _naming(tests, "spec")
    for requirement in catalogue.requirements.values():
        id = requirement.id
        standing = Standing(id, State.OPEN, cited.get(id, []), named.get(id, []), proofs.get(id, {}))
        standing.state = _state(requirement, standing, bool(catalogue.errata_of.get(id)), id in survived)
        found[id] = standing
    named = _naming(tests, "security")
    for rule in catalogue.rules.values():
        standing = Standing(
            rule.id, State.OPEN, cited.get(rule.id, []), named.get(rule.id, []), proofs.get(rule.id, {})
        )
        standing.state = _state(rule, standing, False, rule.id in survived)
        found[rule.id] = standing
    return found


def errata_standings(
    catalogue: Catalogue, tests: Sequence[MarkedTest], evidence: Iterable[Evidence]
) -> dict[str, ErratumStanding]:
    """Return which errata are pinned, by what."""
    named = _naming(tests, "erratum")
    proofs: dict[str, dict[str, list[str]]] = {}
    for run in evidence:
        for test in run.tests:
            for id in test.erratum:
                _add(proofs.setdefault(id, {}), test.platform, test.function)
    return {
        id: ErratumStanding(erratum, named.get(id, []), proofs.get(id, {})) for id, erratum in catalogue.errata.items()
    }


def _state(requirement: Requirement | SecurityRule, standing: Standing, has_errata: bool, has_survived: bool) -> State:
    if isinstance(requirement, Requirement) and requirement.level == "info":
        return State.INFORMATION
    if standing.proofs:
        if has_survived:
            return State.EXECUTED
        return State.DISPUTED if has_errata else State.PROVED
    if requirement.waits_for:
        return State.WAITS
    if standing.tests:
        return State.HOLLOW
    return State.UNTESTED if standing.citations else State.OPEN


def _group(citations: Iterable[Citation]) -> dict[str, list[Citation]]:
    grouped: dict[str, list[Citation]] = {}
    for citation in citations:
        grouped.setdefault(citation.id, []).append(citation)
    return grouped


def _naming(tests: Iterable[MarkedTest], kind: str) -> dict[str, list[MarkedTest]]:
    named: dict[str, list[MarkedTest]] = {}
    for test in tests:
        for id in test.ids(kind):
            named.setdefault(id, []).append(test)
    return named


def _proofs(cited: Mapping[str, list[Citation]], evidence: Iterable[Evidence]) -> dict[str, dict[str, list[str]]]:
    keys = {id: {c.key for c in citations} for id, citations in cited.items()}
    proofs: dict[str, dict[str, list[str]]] = {}
    for run in evidence:
        for test in run.tests:
            named = (test.spec if len(test.spec) <= MOST_IDS else ()) + test.security
            for id in named:
                if not keys.get(id, set()).isdisjoint(test.ran):
                    _add(proofs.setdefault(id, {}), test.platform, test.function)
    return proofs


def _add(proofs: dict[str, list[str]], platform: str, test: str) -> None:
    tests = proofs.setdefault(platform, [])
    if test not in tests:
        tests.append(test)
