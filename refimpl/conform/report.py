"""What probing came to: requirement by requirement, in the document's order, as a table and as JSON.

The JSON is one object: ``format`` (1; raised when a member changes its meaning), ``end`` ("backend" or "frontend"),
``subject`` (what was probed, in the words of who ran it), ``platform``, ``protocol_version``, ``hostile``, ``counts``
(verdict -> number) and ``sections``: objects with ``heading`` and ``requirements``, objects with ``id``, ``level``,
``text`` (our restatement), ``verdict``, ``erratum`` (its id, or null), ``seen`` (what was seen, or why nothing was; or
null) and ``probes`` (their names).
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from refimpl.conform.probes import Probe, Verdict
from refimpl.speclink.catalogue import Catalogue

FORMAT = 1
HOSTILE_HEADING = {"backend": "Hostile guests", "frontend": "Hostile backends"}
_GRAVITY = {verdict: number for number, verdict in enumerate(Verdict)}
_MARKS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "FAIL",
    Verdict.DIFFERS: "differs",
    Verdict.NOT_OBSERVABLE: "not observable",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one probe ended."""

    probe: Probe
    verdict: Verdict
    seen: str | None = None
    erratum: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What is said of one requirement; its fields are the JSON's."""

    id: str
    level: str
    text: str
    verdict: Verdict
    erratum: str | None
    seen: str | None
    probes: tuple[str, ...]


@dataclass
class Report:
    """All lines, by heading."""

    end: str
    subject: str
    platform: str
    protocol_version: str
    hostile: bool
    sections: dict[str, list[Line]] = field(default_factory=dict)

    @property
    def lines(self) -> Iterator[Line]:
        """Every line, in order."""
        for lines in self.sections.values():
            yield from lines

    @property
    def counts(self) -> Counter[str]:
        """How many requirements have each verdict."""
        counts = Counter({str(verdict): 0 for verdict in Verdict})
        counts.update(str(line.verdict) for line in self.lines)
        return counts

    @property
    def has_failed(self) -> bool:
        """Whether a requirement is not kept."""
        return any(line.verdict is Verdict.FAIL for line in self.lines)

    def to_json(self) -> str:
        """Return the JSON; see the module."""
        whole = {
            "format": FORMAT,
            "end": self.end,
            "subject": self.subject,
            "platform": self.platform,
            "protocol_version": self.protocol_version,
            "hostile": self.hostile,
            "counts": dict(self.counts),
            "sections": [
                {"heading": heading, "requirements": [asdict(line) for line in lines]}
                for heading, lines in self.sections.items()
            ],
        }
        return json.dumps(whole, indent=1)

    def to_text(self) -> str:
        """Return the table: a line a requirement, and under it what was seen where that is not what was to be."""
        head = f"The {self.end} of {self.subject}, on {self.platform}, against PV Calls version {self.protocol_version}"
        return "\n".join([head, *_table(self.sections), "", self.summary(), ""])

    def summary(self) -> str:
        """Return the last line."""
        counts = self.counts
        return ", ".join(f"{counts[verdict]} {name}" for verdict, name in _SUMMARY.items())


_SUMMARY = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.DIFFERS: "differ under an erratum",
    Verdict.NOT_OBSERVABLE: "not observable",
}


def _table(sections: Mapping[str, Sequence[Line]]) -> Iterator[str]:
    for heading, lines in sections.items():
        yield f"\n{heading}"
        for line in lines:
            verdict = f"differs {line.erratum}" if line.erratum else _MARKS[line.verdict]
            yield from _wrapped(f"  {line.id:12} {verdict:24} ", line.text)
            if line.seen:
                yield from _wrapped(" " * 40, f"({line.seen})" if line.verdict is Verdict.NOT_OBSERVABLE else line.seen)


def _wrapped(head: str, text: str) -> Iterator[str]:
    rows = textwrap.wrap(text, 118 - len(head)) or [""]
    yield head + rows[0]
    for row in rows[1:]:
        yield " " * len(head) + row


def make_report(
    end: str,
    catalogue: Catalogue,
    outcomes: Iterable[Outcome],
    *,
    subject: str,
    platform: str,
    hostile: bool,
    unseen: Mapping[str, str],
    only: Sequence[str] = (),
) -> Report:
    """Sort outcomes into the catalogue's order: every requirement of that end, ``only`` these if any are named."""
    by_id: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        for id in outcome.probe.ids:
            by_id.setdefault(id, []).append(outcome)
    report = Report(end, subject, platform, catalogue.document.get("protocol_version", "1"), hostile)

    def line(id: str, level: str, text: str) -> Line:
        about = by_id.get(id, [])
        gravest = max(about, key=lambda each: _GRAVITY[each.verdict], default=None)
        if gravest is None:
            return Line(id, level, text, Verdict.NOT_OBSERVABLE, None, unseen.get(id, "it was not asked for"), ())
        names = tuple(each.probe.name for each in about)
        return Line(id, level, text, gravest.verdict, gravest.erratum, gravest.seen, names)

    for section, requirements in catalogue.by_section():
        of_this_end = [r for r in requirements if end in r.who and r.level != "info" and (not only or r.id in only)]
        if of_this_end:
            report.sections[section.heading] = [line(r.id, r.level, r.text) for r in of_this_end]
    rules = [rule for rule in catalogue.rules.values() if rule.who == end and (not only or rule.id in only)]
    if hostile and rules:
        report.sections[HOSTILE_HEADING[end]] = [line(rule.id, "rule", rule.text) for rule in rules]
    return report


def read_report(text: str) -> dict[str, Any]:
    """Read a report's JSON. Raises ValueError where it is another format's."""
    whole = json.loads(text)
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ValueError(f"no conformance report of format {FORMAT}")
    return whole
