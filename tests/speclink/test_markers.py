"""Markers read without importing the tests."""

from __future__ import annotations

import textwrap

import pytest

from refimpl.speclink.catalogue import load
from refimpl.speclink.markers import scan, scan_text


def read(text: str, findings: list | None = None) -> dict[str, list[tuple[str, str, bool]]]:
    found = scan_text("tests/test_x.py", textwrap.dedent(text), [] if findings is None else findings)
    return {test.name: [(m.kind, m.id, m.in_parameters) for m in test.markers] for test in found}


def test_markers_of_function_class_and_file_add_up():
    assert read(
        """\
        import pytest
        pytestmark = [pytest.mark.spec("A-1")]

        @pytest.mark.spec("B-1", "B-2")
        @pytest.mark.erratum("E-X")
        def test_one(): ...

        @pytest.mark.security("SEC-B-1")
        class TestThings:
            pytestmark = pytest.mark.spec("C-1")

            @pytest.mark.spec("D-1")
            def test_two(self): ...

        def helper(): ...
        """
    ) == {
        "test_one": [("spec", "A-1", False), ("spec", "B-1", False), ("spec", "B-2", False), ("erratum", "E-X", False)],
        "TestThings::test_two": [
            ("spec", "A-1", False),
            ("security", "SEC-B-1", False),
            ("spec", "C-1", False),
            ("spec", "D-1", False),
        ],
    }  # fmt: skip


def test_markers_of_parameters_and_by_name():
    assert read(
        """\
        from pytest import mark, param
        import pytest
        CONNECTS = pytest.mark.spec("A-1")
        CASES = [pytest.param(1, marks=pytest.mark.spec("B-1")), pytest.param(2, marks=[CONNECTS])]

        @CONNECTS
        def test_one(): ...

        @pytest.mark.parametrize("x", CASES)
        def test_two(x): ...
        """
    ) == {"test_one": [("spec", "A-1", False)], "test_two": [("spec", "B-1", True), ("spec", "A-1", True)]}


def test_ids_are_literal():
    findings: list = []
    read("import pytest\n@pytest.mark.spec(ID)\n@pytest.mark.erratum()\ndef test_x(): ...\n", findings)
    assert [str(f) for f in findings] == [
        "tests/test_x.py:2: ids of a spec marker are literal strings",
        "tests/test_x.py:3: erratum marker names no id",
    ]


@pytest.mark.parametrize(
    ("markers", "message"),
    [
        ('spec("CONNECT-9")', "tests/test_x.py:2: test_x names CONNECT-9, which is no spec id of spec/"),
        ('spec("E-SIZE")', "tests/test_x.py:2: test_x names E-SIZE, which is no spec id of spec/"),
        ('erratum("CONNECT-1")', "tests/test_x.py:2: test_x names CONNECT-1, which is no erratum id of spec/"),
        ('security("SEC-B-2")', "tests/test_x.py:2: test_x names SEC-B-2, which is no security id of spec/"),
    ],
)
def test_unknown_ids_are_found(small, markers, message):
    small.write("tests/test_x.py", f"import pytest\n@pytest.mark.{markers}\ndef test_x(): ...\n")
    findings: list = []
    scan(small.root, load(small.root), findings)
    assert [str(f) for f in findings] == [message]


def test_more_than_four_ids_prove_none(small):
    small.replace(
        "spec/requirements/connect.toml",
        "\n[document]",
        '\n[[requirement]]\nid = "CONNECT-4"\nwho = []\nlevel = "may"\ntext = "x"\n\n[document]',
    )
    ids = ["CONNECT-1", "CONNECT-2", "CONNECT-3", "CONNECT-4", "RELEASE-1"]
    parameters = ", ".join(f"pytest.param({i!r}, marks=pytest.mark.spec({i!r}))" for i in ids)
    small.write(
        "tests/test_x.py",
        f"import pytest\n@pytest.mark.spec({', '.join(map(repr, ids))})\ndef test_x(): ...\n"
        f'@pytest.mark.parametrize("x", [{parameters}])\ndef test_y(x): ...\n',
    )
    findings: list = []
    scan(small.root, load(small.root), findings)
    assert [str(f) for f in findings] == ["tests/test_x.py:3: test_x names 5 requirements: more than 4 prove none"]
