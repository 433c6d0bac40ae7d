"""From words to requirements, and from lines of code to what they are for."""

from __future__ import annotations

import pytest

from refimpl.speclink import document
from refimpl.speclink.where import of_line, of_text


@pytest.fixture(scope="module")
def copy():
    file = document.find_copy()
    if file is None:
        pytest.skip("needs Debian's package xen-doc")
    return document.read(file)


def ids(hits) -> list[str]:
    return [hit.id for hit in hits]


def test_sentence_of_the_document_is_known_by_its_pin(small):
    hits = of_text(small.loaded().catalogue, "The  socket is *connected*.")
    assert (hits[0].id, hits[0].section, hits[0].at, hits[0].is_exact) == ("CONNECT-1", "connect", 1, True)


def test_requirement_that_a_sentence_is_mainly_about_comes_first(small):
    assert ids(of_text(small.loaded().catalogue, "Its size is 64."))[:2] == ["CONNECT-2", "CONNECT-1"]


def test_several_sentences_are_each_found(small):
    hits = of_text(small.loaded().catalogue, "The socket is connected. That is useful.")
    assert [h.id for h in hits if h.is_exact] == ["CONNECT-1", "CONNECT-3"]


def test_information_is_said_to_be_information(small):
    hit = of_text(small.loaded().catalogue, "Fields:")[0]
    assert (hit.id, hit.information) == ("", "a label")


def test_words_are_matched_against_restatements(small):
    assert ids(of_text(small.loaded().catalogue, "who releases it"))[0] == "RELEASE-1"
    assert of_text(small.loaded().catalogue, "zebra") == []


def test_words_are_matched_against_a_copy_at_hand(small):
    catalogue = small.loaded().catalogue
    copy = document.read(small.root / "document.html")
    assert ids(of_text(catalogue, "is 64")) != ["CONNECT-2"]
    assert ids(of_text(catalogue, "is 64", copy))[0] == "CONNECT-2"


def musts(real):
    catalogue = real.catalogue
    places = [p for p in catalogue.places if any(catalogue.requirements[id].is_must for id in p.says)]
    assert len(places) > 300
    return catalogue, places


def text_of(place, copy, catalogue):
    heading = catalogue.sections[place.section].heading
    return next(h for h in copy if h.title == heading).sentences[place.at - 1].text


def test_must_sentences_lead_to_their_requirement_first(real, copy):
    catalogue, places = musts(real)
    found = 0
    for place in places:
        hits = of_text(catalogue, text_of(place, copy, catalogue), section=place.section)
        found += hits[0].id == place.says[0]
    # The rest are five sentences that stand twice in one section, such as "general memory barrier".
    assert found / len(places) >= 0.95


def test_without_its_heading_a_sentence_leads_to_one_of_the_places_it_stands_at(real, copy):
    catalogue, places = musts(real)
    for place in places:
        hits = of_text(catalogue, text_of(place, copy, catalogue))
        assert hits[0].is_exact
        assert hits[0].id in {p.says[0] for p in places if p.sha256 == place.sha256}


def test_most_musts_are_found_from_their_first_half(real, copy):
    catalogue, places = musts(real)
    found = asked = 0
    for place in places:
        words = text_of(place, copy, catalogue).split()
        if place.kind in ("sentence", "item") and len(words) >= 10:
            half = " ".join(words[: len(words) // 2])
            hits = of_text(catalogue, half, copy, section=place.section, most=3)
            asked += 1
            found += bool(set(place.says) & set(ids(hits)))
    assert asked > 60
    assert found / asked > 0.9


def test_line_of_code_leads_to_what_it_keeps(small):
    found = of_line(small.loaded(), "refimpl/connect.py", 10)
    assert ([c.id for c in found.here], [c.id for c in found.around]) == (["CONNECT-1", "SEC-B-1"], [])
    assert found.within == "connect"


def test_line_beside_it_leads_to_what_is_around(small):
    found = of_line(small.loaded(), "refimpl/connect.py", 11)
    assert ([c.id for c in found.here], [c.id for c in found.around]) == ([], ["CONNECT-1", "SEC-B-1"])


@pytest.mark.parametrize(
    ("path", "line"), [("refimpl/none.py", 1), ("refimpl/connect.py", 0), ("refimpl/connect.py", 99)]
)
def test_lines_that_are_not_there(small, path, line):
    assert of_line(small.loaded(), path, line) is None
