"""Citations: which comments are, what they stand on, and which ids are unknown."""

from __future__ import annotations

import textwrap

import pytest

from refimpl.speclink.catalogue import load
from refimpl.speclink.citations import scan, scan_text


@pytest.fixture
def read(small):
    catalogue = load(small.root)

    def read(text: str):
        return scan_text("refimpl/x.py", textwrap.dedent(text), catalogue)

    return read


def places(source) -> list[tuple[str, int, int]]:
    return [(c.id, c.statement.first, c.statement.last) for c in source.citations]


def test_citation_stands_on_its_line(read):
    source = read("def f():\n    a = 1\n    b = 2  # CONNECT-1\n")
    assert places(source) == [("CONNECT-1", 3, 3)]
    assert source.citations[0].key == "refimpl/x.py:3"
    assert source.citations[0].statement.within == "f"
    assert not source.citations[0].is_definition


def test_citation_may_stand_above_with_its_reason(read):
    source = read("def f():\n    # Since the peer lies.\n    # CONNECT-1: here\n    a = 1\n")
    assert places(source) == [("CONNECT-1", 4, 4)]


@pytest.mark.parametrize(
    ("comment", "ids", "errata"),
    [
        ("# CONNECT-1", ["CONNECT-1"], ()),
        ("#CONNECT-1,CONNECT-2", ["CONNECT-1", "CONNECT-2"], ()),
        ("# CONNECT-1, SEC-B-1 (E-SIZE)", ["CONNECT-1", "SEC-B-1"], ("E-SIZE",)),
        ("# (E-SIZE), CONNECT-1", ["CONNECT-1"], ("E-SIZE",)),
        ("# CONNECT-1 (E-SIZE), CONNECT-2: why", ["CONNECT-1", "CONNECT-2"], ("E-SIZE",)),
        ("# CONNECT-1: why", ["CONNECT-1"], ()),
        ("# CONNECT-1; noqa", ["CONNECT-1"], ()),
        ("# E-SIZE", ["E-SIZE"], ()),
        ("# (E-SIZE): why", ["E-SIZE"], ("E-SIZE",)),
        ("# as CONNECT-1 says", [], ()),
        ("# see CVE-2020-27673 and UTF-8", [], ()),
    ],
)
def test_comments_that_cite_and_those_that_mention(read, comment, ids, errata):
    source = read(f"def f():\n    a = 1  {comment}\n")
    assert [c.id for c in source.citations] == ids
    assert {c.errata for c in source.citations} <= {errata}
    assert source.findings == []


def test_multi_line_statement_is_one(read):
    assert places(read("def f():\n    g(\n        1,  # CONNECT-1\n    )\n")) == [("CONNECT-1", 2, 4)]


def test_header_is_cited_and_not_the_block(read):
    source = read(
        """\
        def f(a):
            if a:  # CONNECT-1
                pass
            elif (
                b
            ):  # CONNECT-2
                pass
            while a:  # CONNECT-3
                pass
        """
    )
    assert places(source) == [("CONNECT-1", 2, 2), ("CONNECT-2", 4, 5), ("CONNECT-3", 8, 8)]


def test_branches_without_a_condition_cite_their_first_statement(read):
    source = read(
        """\
        def f(a):  # CONNECT-1
            '''Words.'''
            try:
                g()
            except OSError:  # CONNECT-2
                h()
            else:  # CONNECT-3
                i()
            match a:
                case 1:  # RELEASE-1
                    j()
        """
    )
    assert [p[:2] for p in places(source)] == [("CONNECT-1", 3), ("CONNECT-2", 6), ("CONNECT-3", 8), ("RELEASE-1", 11)]


def test_definitions_know_what_they_define(read):
    source = read(
        """\
        A = B = 1  # CONNECT-1
        class C:
            D = 1  # CONNECT-2
            class E:
                F = 2  # CONNECT-3
            def g(self):
                self.x = 1  # RELEASE-1
        A[1] = 2  # SEC-B-1
        """
    )
    assert [c.statement.names for c in source.citations] == [("A", "B"), ("C",), ("C",), (), ("A",)]


def test_strings_are_no_comments(read):
    source = read('def f():\n    a = "# CONNECT-1"\n    return f"# CONNECT-2 {a}"  # CONNECT-3 # x\n')
    assert [c.id for c in source.citations] == []
    assert read('X = """\n# CONNECT-99\n"""\n').findings == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1  # CONNECT-99\n", "refimpl/x.py:1: cites CONNECT-99, which is not in spec/"),
        ("a = 1  # CONECT-7\n", "refimpl/x.py:1: cites CONECT-7, which is not in spec/"),
        ("a = 1  # CONNECT-1 (E-NONE)\n", "refimpl/x.py:1: cites E-NONE, which is not in spec/"),
        ("a = 1  # unlike CONNECT-99\n", "refimpl/x.py:1: mentions CONNECT-99, which is not in spec/"),
        ('"""Words.\n\nAs SEC-B-99 says.\n"""\n', "refimpl/x.py:3: mentions SEC-B-99, which is not in spec/"),
        ('raise V("CONNECT-99", 1)\n', "refimpl/x.py:1: mentions CONNECT-99, which is not in spec/"),
        ("# CONNECT-1\n\na = 1\n", "refimpl/x.py:1: '# CONNECT-1' stands on no statement"),
        (
            "a = 1  # CONNECT-1 CONNECT-2\n",
            "refimpl/x.py:1: '# CONNECT-1 CONNECT-2' begins with an id and is no citation:"
            " `# ID`, `# ID, ID (E-ID)` or `# ID: why`",
        ),
        ("a = 1\n# CONNECT-1\n", "refimpl/x.py:2: '# CONNECT-1' stands on no statement"),
        ("a = (  # CONNECT-1\n", "refimpl/x.py:1: is no Python: '(' was never closed"),
    ],
)
def test_what_is_wrong_is_found_with_its_line(read, text, message):
    assert [str(f) for f in read(text).findings] == [message]


def test_project_is_scanned_without_speclink_itself(small):
    small.write("refimpl/speclink/x.py", "a = 1  # CONNECT-99\n")
    small.write("tests/test_x.py", "a = 1  # CONNECT-1 is only mentioned here\nb = 2  # CONNECT-98\n")
    sources = scan(small.root, load(small.root))
    assert [(c.id, c.key) for s in sources for c in s.citations] == [
        ("CONNECT-2", "refimpl/connect.py:1"),
        ("CONNECT-1", "refimpl/connect.py:10"),
        ("SEC-B-1", "refimpl/connect.py:10"),
    ]
    assert [str(f) for s in sources for f in s.findings] == [
        "tests/test_x.py:2: mentions CONNECT-98, which is not in spec/"
    ]
