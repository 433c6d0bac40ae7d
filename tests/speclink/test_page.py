"""The page: whole, self-contained, small, and with none of the document's own text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from refimpl.layout import Layout
from refimpl.speclink import coverage_file, document
from refimpl.speclink.page import articles, build, figures
from refimpl.speclink.page.state_drawing import state_machine
from refimpl.xenstore.state_machine import BACKEND, FRONTEND, FRONTEND_SHUTDOWN

VOID = {"meta", "input", "link", "br"}


class Reader(HTMLParser):
    """Collects ids, links and data, and complains of tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.outside: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self._open.append(tag)
        found = dict(attrs)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        self.outside += [v for n, v in attrs if n in ("src", "href") and not v.startswith("#")]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def page(real) -> str:
    return build(real)


@pytest.fixture(scope="module")
def reader(page) -> Reader:
    return Reader(page)


def test_page_is_well_formed_with_each_id_once(reader):
    assert len(set(reader.ids)) == len(reader.ids)


def test_every_requirement_erratum_rule_and_section_has_its_place(reader, real):
    catalogue = real.catalogue
    wanted = {*catalogue.requirements, *catalogue.errata, *catalogue.rules, *catalogue.sections}
    assert wanted <= set(reader.ids)


def test_every_link_leads_somewhere_in_the_page(reader, real):
    cited = {source.path for source in real.sources if source.citations}
    modules = {section.module for section in real.catalogue.sections.values()}
    for link in reader.links:
        target = link.removeprefix("#")
        assert target in reader.ids or target in cited | modules, link


def test_page_needs_nothing_from_elsewhere(page, reader):
    assert reader.outside == []
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "fetch(" not in page and "XMLHttpRequest" not in page


def test_page_is_under_three_megabytes(page):
    assert len(page.encode()) < 3_000_000


def test_data_holds_every_citing_file_and_test(page, real):
    raw = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    data = json.loads(raw)
    assert set(data["files"]) == {s.path for s in real.sources if s.citations}
    for path, text in data["files"].items():
        assert text == (real.root / path).read_text(encoding="utf-8")
    for id, tie in data["ties"].items():
        for path, first, last, _ in tie["code"]:
            assert 1 <= first <= last <= data["files"][path].count("\n") + 1, id
        assert all(
            data["tests"][number]["source"].lstrip().startswith(("@", "def", "async")) for number, _ in tie["tests"]
        )


def test_text_of_others_is_escaped(small):
    small.replace("spec/requirements/connect.toml", "It connects.", "It <script>alert(1)</script> `a<b`.")
    small.replace("refimpl/connect.py", "return 2", 'return "</script><b>"')
    page = build(small.loaded())
    Reader(page)
    assert "<script>alert" not in page
    assert "<code>a&lt;b</code>" in page
    assert "</script><b>" not in page


def test_none_of_the_documents_own_sentences_is_in_the_page(page):
    copy = document.find_copy()
    if copy is None:
        pytest.skip("needs Debian's package xen-doc")
    words = document.normalise(re.sub(r"<[^>]*>", " ", page))
    for heading in document.read(copy):
        for sentence in heading.sentences:
            if sentence.kind in ("sentence", "item") and len(sentence.text.split()) > 7:
                assert sentence.text not in words


def test_runs_of_sentences_are_shortened(real):
    places = real.catalogue.places_of
    assert articles.stands_at(places["GLOSS-1"]) == "sentences 1-26"
    assert articles.stands_at(places["CONNECT-7"]) == "sentence 12"
    assert articles.stands_at(places["RELEASE-3"]) == "sentences 3, 6-7"


def cells(layout: Layout) -> list[tuple[str, str, str]]:
    html = figures.byte_layout(layout)
    found = re.findall(r'grid-column:(\d+)/span (\d+)" title="[^"]*"><small>\d+</small> ([^<]*)', html)
    return [(column, span, name.strip()) for column, span, name in found]


def test_byte_layout_is_drawn_sixteen_bytes_a_row():
    layout = Layout("x", ("a", "Q"), ("b", "I"), ("long", "28s"), ("pad", "4x"), ("c", "B"), total_size=64)
    assert cells(layout) == [
        ("1", "8", "a"), ("9", "4", "b"), ("13", "4", "long"), ("1", "16", "long"), ("1", "8", "long"), ("9", "4", ""),
        ("13", "1", "c"), ("14", "3", ""), ("1", "16", ""),
    ]  # fmt: skip


def test_long_members_take_one_row():
    assert [name for _, _, name in cells(Layout("x", ("a", "Q"), ("huge", "4000s")))] == ["a", "huge", "huge", "huge"]


def test_state_machine_has_an_arc_for_each_way_of_the_table():
    drawing = state_machine("backend", BACKEND)
    ways = {(own, [a.next_state for a in row if a.next_state is not None][-1]) for (own, _), row in BACKEND.items()}
    assert drawing.count('class="arc"') == len(ways)
    assert "InitWait to Connected when the peer is Initialised" in drawing
    assert "of itself" not in drawing


def test_state_machine_shows_what_an_end_does_of_itself():
    drawing = state_machine("frontend", FRONTEND, FRONTEND_SHUTDOWN)
    assert drawing.count('class="arc own"') == 1
    assert "Connected to Closing when a program closes it" in drawing


def chips(page: str) -> dict[str, str]:
    return dict(re.findall(r'<article id="([^"]+)"[^>]*>.*?<span class="chip (\w+)">', page))


def test_states_are_those_of_a_run_else_those_checked_in(tested):
    small, run = tested
    by_run = chips(build(small.loaded(run)))
    assert by_run == {
        "CONNECT-1": "proved", "CONNECT-2": "disputed", "CONNECT-3": "information", "RELEASE-1": "open",
        "E-SIZE": "pinned", "SEC-B-1": "proved",
    }  # fmt: skip
    assert chips(build(small.loaded()))["CONNECT-1"] == "hollow"
    coverage_file.write(small.loaded(run))
    assert chips(build(small.loaded())) == by_run
