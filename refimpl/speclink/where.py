"""From words of the document to requirements, and from a line of code to what it is for."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from refimpl.speclink.catalogue import Catalogue
from refimpl.speclink.citations import Citation
from refimpl.speclink.document import Heading, digest, split_sentences
from refimpl.speclink.project import Project
from refimpl.speclink.statements import Statements


class Hit(NamedTuple):
    """A requirement (or what is information) that words lead to.

    ``is_exact`` if the words are a sentence of the document; ``at`` is that sentence's place, else 0. ``information``
    is set, and ``id`` empty, where the sentence asks for nothing.
    """

    id: str
    section: str
    at: int
    is_exact: bool
    score: float
    information: str = ""


class CodeLine(NamedTuple):
    """What a line of code is for: the citations on its statement, and those of the function around it."""

    within: str
    here: list[Citation]
    around: list[Citation]


def of_text(
    catalogue: Catalogue, words: str, copy: Iterable[Heading] = (), section: str = "", most: int = 10
) -> list[Hit]:
    """Return the requirements that the words are about, best first.

    A whole sentence of the document is known by its pin, with no copy of the document needed. ``section`` (an id or a
    heading) puts what stands there first: some sentences stand in several sections.
    """
    hits = [*_exact(catalogue, words), *_ranked(catalogue, words, copy)]
    wanted = {s.id for s in catalogue.sections.values() if section.lower() in (s.id, s.heading.lower())}
    hits.sort(key=lambda hit: (hit.section not in wanted, not hit.is_exact, -hit.score))
    best: dict[str, Hit] = {}
    for hit in hits:
        best.setdefault(hit.id or f"{hit.section}:{hit.at}", hit)
    return list(best.values())[:most]


def _exact(catalogue: Catalogue, words: str) -> list[Hit]:
    pins = {digest(part) for part in (words, *split_sentences(words))}
    hits = []
    for place in catalogue.places:
        if place.sha256 in pins:
            # Of several requirements on one sentence the one named first is what it is mainly about.
            scores = range(len(place.says), 0, -1)
            hits += [Hit(id, place.section, place.at, True, s) for id, s in zip(place.says, scores, strict=True)]
            if place.information:
                hits.append(Hit("", place.section, place.at, True, 0, place.information))
    return hits


_WORD = re.compile(r"[a-z0-9_]+")
_ENDINGS = ("ings", "ing", "es", "ed", "s")
_STEM_LENGTH = 3


def _words(text: str) -> list[str]:
    return [_stem(word) for word in _WORD.findall(text.lower())]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_LENGTH:
            return word.removesuffix(ending)
    return word


def _ranked(catalogue: Catalogue, words: str, copy: Iterable[Heading]) -> list[Hit]:
    """Rank by the words in common, rare ones counting most (BM25)."""
    texts: list[tuple[str, str, int, list[str]]] = []
    headings = {s.id: s.heading for s in catalogue.sections.values()}
    for requirement in catalogue.requirements.values():
        text = f"{headings[requirement.section]} {requirement.id} {requirement.text}"
        texts.append((requirement.id, requirement.section, 0, _words(text)))
    sentences = {s.sha256: s.text for heading in copy for s in heading.sentences}
    for place in catalogue.places:
        if place.says and place.sha256 in sentences:
            text = f"{headings[place.section]} {sentences[place.sha256]}"
            texts.append((place.says[0], place.section, place.at, _words(text)))
    asked = set(_words(words))
    spread = Counter(word for *_, bag in texts for word in set(bag))
    mean = sum(len(bag) for *_, bag in texts) / max(len(texts), 1)
    hits = []
    for id, section, at, bag in texts:
        score = sum(_weight(word, bag, spread, len(texts), mean) for word in asked)
        if score:
            hits.append(Hit(id, section, at, False, score))
    return hits


def _weight(word: str, bag: list[str], spread: Counter[str], total: int, mean: float) -> float:
    count = bag.count(word)
    if not count:
        return 0.0
    rarity = math.log(1 + (total - spread[word] + 0.5) / (spread[word] + 0.5))
    return rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(bag) / mean))


def of_line(project: Project, path: str, line: int) -> CodeLine | None:
    """Return what a line is for; None where there is no such line or file."""
    file = project.root / path
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8")
    if not 1 <= line <= text.count("\n") + 1:
        return None
    relative = Path(path).as_posix()
    citations = [c for c in project.citations if c.path == relative]
    statement = Statements(ast.parse(text)).at(line)
    if statement is None:
        return CodeLine("", [], citations)
    here = [c for c in citations if c.statement == statement]
    around = [c for c in citations if c.statement.within == statement.within and c not in here]
    return CodeLine(statement.within, here, around)
