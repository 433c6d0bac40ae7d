"""The document itself, from Debian's package xen-doc, as an oracle."""

from __future__ import annotations

import html
import re

import pytest

from refimpl.speclink import document

TAGS = re.compile(r"</?(?!string\b|uint32_t\b)[a-z][^>]*>")


@pytest.fixture(scope="session")
def headings() -> list[document.Heading]:
    """Return what stands under each heading."""
    copy = document.find_copy()
    if copy is None:
        pytest.skip("package xen-doc is not installed")
    return document.read(copy)


@pytest.fixture(scope="session")
def source_of():
    """``source_of(pattern)``: the C text of the document that a pattern finds, whole and as it is printed."""
    copy = document.find_copy()
    if copy is None:
        pytest.skip("package xen-doc is not installed")
    text = html.unescape(TAGS.sub("", copy.read_text(encoding="utf-8")))

    def find(pattern: str) -> str:
        found = re.findall(pattern, text, re.DOTALL | re.MULTILINE)
        assert len(found) == 1, f"{pattern} stands {len(found)} times in the document"
        return found[0]

    return find


@pytest.fixture(scope="session")
def rows(headings):
    """``rows(title)``: the table rows and definitions under a heading."""

    def find(title: str) -> list[str]:
        return [s.text for h in headings if h.title == title for s in h.sentences if s.kind == "row"]

    return find
