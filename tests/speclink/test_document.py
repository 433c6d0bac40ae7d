"""Reading copies of the document: what is a sentence, and what two editions of one share."""

from __future__ import annotations

import gzip

import pytest

from refimpl.speclink import document


def sentences(html: str) -> list[tuple[str, str]]:
    (heading,) = document.parse(f"<h2>PV Calls Protocol</h2>{html}")
    return [tuple(s) for s in heading.sentences]


def test_headings_lose_their_numbers():
    html = '<h1><span class="header-section-number">1</span> A  b</h1><h4 id="x">C\nd</h4>'
    assert [(h.level, h.title) for h in document.parse(html)] == [(1, "A b"), (4, "C d")]


def test_text_before_the_first_heading_is_none_of_the_document():
    assert document.parse("<nav><ul><li>Contents</li></ul></nav><h1>T</h1>")[0].sentences == ()


def test_paragraphs_are_split_where_a_sentence_ends():
    assert [t for _, t in sentences("<p>One. two is a field. Three, i.e. four, e.g. 1 = 2, etc. Five.</p>")] == [
        "One.",
        "two is a field.",
        "Three, i.e. four, e.g. 1 = 2, etc.",
        "Five.",
    ]


def test_types_that_stand_as_tags_are_text():
    assert sentences("<p>port Values: <uint32_t></p><p>version Values: <string></p>") == [
        ("sentence", "port Values: <uint32_t>"),
        ("sentence", "version Values: <string>"),
    ]


def test_list_run_together_with_its_introduction_is_cut_into_items():
    assert sentences("<p>Benefits: * one thing * another</p><p>Return: - 0 - See it.</p>") == [
        ("sentence", "Benefits:"),
        ("item", "one thing"),
        ("item", "another"),
        ("sentence", "Return:"),
        ("item", "0"),
        ("item", "See it."),
    ]


def test_items_hold_their_own_text_and_not_that_of_items_inside():
    html = "<ul><li>fields: <ul><li><b>id</b>: a name</li></ul></li><li><p>two</p><p>three</p></li></ul>"
    assert [t for _, t in sentences(html)] == ["fields:", "id: a name", "two", "three"]


def test_emphasis_and_fancy_quotes_make_no_difference():
    assert document.normalise("*[in|out]_cons<x>, we’ll `do`  **so**") == "[in|out]_cons<x>, we'll do so"
    assert document.normalise("(1 << order) * SIZE /* a comment */") == "(1 << order) * SIZE /* a comment */"
    assert document.digest("a  “b”") == document.digest('a "b"')


def test_definitions_are_rows_and_structures_are_whole():
    html = "<pre><code>#define A 1\n#define B 2\n\nstruct s {\n  int a;\n\n  int b;\n};\n\nint f;\n</code></pre>"
    assert sentences(html + "<pre>[EPERM]  -1\n[ENOENT] -2\n</pre>") == [
        ("row", "#define A 1"),
        ("row", "#define B 2"),
        ("code", "struct s { int a; int b; };"),
        ("code", "int f;"),
        ("row", "[EPERM] -1"),
        ("row", "[ENOENT] -2"),
    ]


def test_drawings_are_layouts_a_figure_one_and_drawings_of_bytes_each_one():
    assert [k for k, _ in sentences("<pre>0  4\n+--+\n|a |\n+--+\n\n4  8\n+--+\n|b |\n+--+</pre>")] == ["layout"] * 2
    assert [k for k, _ in sentences("<pre>+--+\n|@0|\n\n|@4|\n+--+</pre>")] == ["layout"]


def test_columns_of_two_ends_are_read_step_by_step():
    drawing = (
        "*Front*             *Back*\n"
        "StateOne            - Query the\n"
        "XenbusA               device.\n"
        "   |                - Publish\n"
        "   V\n"
        "XenbusB\n"
    )
    assert [t for _, t in sentences(f"<pre>{drawing}</pre>")] == [
        "Front: StateOne",
        "Back: Query the device.",
        "Front: XenbusA",
        "Back: Publish",
        "Front: XenbusB",
    ]


def test_copies_may_be_gzipped(tmp_path, small):
    html = (small.root / "document.html").read_bytes()
    (tmp_path / "copy.html.gz").write_bytes(gzip.compress(html))
    assert document.read(tmp_path / "copy.html.gz") == document.read(small.root / "document.html")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<h1>Something else</h1>", "no copy of the PV Calls document (its first heading is missing)"),
        (b"", "no copy of the PV Calls document (its first heading is missing)"),
        (b"\x1f\x8bnonsense", "broken gzip: Unknown compression method"),
    ],
)
def test_what_is_no_copy_is_said_to_be_none(tmp_path, content, message):
    file = tmp_path / "copy"
    file.write_bytes(content)
    with pytest.raises(document.NotTheDocument) as caught:
        document.read(file)
    assert str(caught.value) == f"{file}: {message}"
