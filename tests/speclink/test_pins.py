"""Pins against another edition of the document."""

from __future__ import annotations

import pytest

from refimpl.speclink import document, pins
from refimpl.speclink.catalogue import load

PLACE = "spec/requirements/connect.toml"


def changes(small, old: str = "", new: str = "") -> list[tuple[str, tuple[str, ...], str]]:
    if old:
        small.replace("document.html", old, new)
    found = pins.compare(load(small.root), document.read(small.root / "document.html"))
    return [(c.kind, c.ids, str(c.finding)) for c in found]


def test_same_edition_has_no_changes(small):
    assert changes(small) == []


def test_this_catalogue_agrees_with_debians_copy(real):
    copy = document.find_copy()
    if copy is None:
        pytest.skip("needs Debian's package xen-doc")
    assert pins.compare(real.catalogue, document.read(copy)) == []


def test_changed_sentence(small):
    assert changes(small, "Its size is 64.", "Its size is 65.") == [
        ("changed", ("CONNECT-2", "CONNECT-1"), f"{PLACE}:25: sentence 2 (CONNECT-2, CONNECT-1) reads differently")
    ]


def test_sentence_that_came_between(small):
    found = changes(small, "<ul>", "<p>Something new.</p><ul>")
    assert found[0] == (
        "moved",
        ("CONNECT-2", "CONNECT-1"),
        f"{PLACE}:25: sentence 2 (CONNECT-2, CONNECT-1) stands at 3 now",
    )
    assert [kind for kind, _, _ in found] == ["moved", "moved", "moved", "new"]
    assert found[-1][2] == f"{PLACE}: Connect: sentence 2 of the copy is in no requirement: Something new."


def test_sentence_that_went(small):
    found = changes(small, "That is useful. ", "")
    assert [(kind, text.rpartition(") ")[2]) for kind, _, text in found] == [
        ("gone", "is gone"),
        ("moved", "stands at 3 now"),
    ]


def test_sentence_in_another_section(small):
    small.replace("document.html", "<p>The socket is released.</p>", "")
    found = changes(small, "That is useful.", "That is useful. The socket is released.")
    assert (
        "moved",
        ("RELEASE-1",),
        "spec/requirements/release.toml:12: sentence 1 (RELEASE-1) stands at 4 of 'Connect' now",
    ) in found


def test_other_kind_of_thing(small):
    assert changes(small, "<ul><li>Its size is 64.</li></ul>", "<p>Its size is 64.</p>")[0][2].endswith(
        "is a sentence, pinned as item"
    )


def test_headings_that_came_went_or_changed_places(small):
    found = changes(small, "<h4>Release</h4>", "<h4>Let go</h4>")
    assert [text for kind, _, text in found if kind == "heading"] == [
        "spec/sections.toml:17: heading 'Release' is not in this copy of the document",
        "spec/sections.toml: heading 'Let go' of this copy of the document is not in sections.toml",
    ]
