"""Compare the catalogue's pins with a copy of the document: what moved, changed, came or went."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from refimpl.speclink.catalogue import Catalogue
from refimpl.speclink.document import Heading, Sentence
from refimpl.speclink.findings import Finding
from refimpl.speclink.records import Place, Section

_SHOWN = 60


class Change(NamedTuple):
    """A disagreement between a pin and the copy. ``ids`` are the requirements it touches.

    ``kind`` is ``"moved"``, ``"changed"``, ``"new"``, ``"gone"``, or ``"heading"``.
    """

    kind: str
    ids: tuple[str, ...]
    finding: Finding


def compare(catalogue: Catalogue, headings: Iterable[Heading]) -> list[Change]:
    """Return every disagreement, in the order of the catalogue's sections."""
    copies = {heading.title: heading for heading in headings}
    changes = [*_headings(catalogue, list(copies))]
    elsewhere = {
        s.sha256: (heading.title, at) for heading in copies.values() for at, s in enumerate(heading.sentences, 1)
    }
    for section in catalogue.sections.values():
        if section.heading in copies:
            places = [p for p in catalogue.places if p.section == section.id]
            changes += _section(section, places, copies[section.heading].sentences, elsewhere)
    return changes


def _headings(catalogue: Catalogue, titles: list[str]) -> Iterator[Change]:
    known = {section.heading: section for section in catalogue.sections.values()}
    for heading, section in known.items():
        if heading not in titles:
            message = f"heading {heading!r} is not in this copy of the document"
            yield Change("heading", (), Finding("spec/sections.toml", section.line, message))
    for title in titles:
        if title not in known:
            message = f"heading {title!r} of this copy of the document is not in sections.toml"
            yield Change("heading", (), Finding("spec/sections.toml", 0, message))
    ours = [h for h in known if h in titles]
    theirs = [t for t in titles if t in known]
    for heading, title in zip(ours, theirs, strict=True):
        if heading != title:
            message = f"heading {heading!r} stands where the copy has {title!r}"
            yield Change("heading", (), Finding("spec/sections.toml", known[heading].line, message))
            return


def _section(
    section: Section,
    places: list[Place],
    sentences: tuple[Sentence, ...],
    elsewhere: dict[str, tuple[str, int]],
) -> Iterator[Change]:
    here = [sentence.sha256 for sentence in sentences]
    pinned = {place.sha256 for place in places}
    known = set()
    for place in places:
        copy = sentences[place.at - 1] if place.at <= len(sentences) else None
        if copy is not None and copy.sha256 == place.sha256:
            if copy.kind != place.kind:
                yield _change("changed", place, f"is a {copy.kind}, pinned as {place.kind}")
        elif place.sha256 in here:
            yield _change("moved", place, f"stands at {here.index(place.sha256) + 1} now")
        elif place.sha256 in elsewhere:
            title, at = elsewhere[place.sha256]
            yield _change("moved", place, f"stands at {at} of {title!r} now")
        elif copy is not None and copy.sha256 not in pinned:
            known.add(place.at)
            yield _change("changed", place, "reads differently")
        else:
            yield _change("gone", place, "is gone")
    path = places[0].path if places else "spec/sections.toml"
    for at, sentence in enumerate(sentences, 1):
        if sentence.sha256 not in pinned and at not in known:
            message = f"{section.heading}: sentence {at} of the copy is in no requirement: {sentence.text[:_SHOWN]}"
            yield Change("new", (), Finding(path, 0, message))


def _change(kind: str, place: Place, what: str) -> Change:
    about = ", ".join(place.says) or "information"
    return Change(kind, place.says, Finding(place.path, place.line, f"sentence {place.at} ({about}) {what}"))
