"""Definitions are used where they, or what is made of them at import, are named."""

from __future__ import annotations

import pytest

from refimpl.speclink.catalogue import load
from refimpl.speclink.citations import scan
from refimpl.speclink.uses import Uses

MODULE = """\
SIZE = 64  # CONNECT-2
TABLE = {SIZE: "a"}


class Layout:
    order = 4  # CONNECT-1

    def method(self):
        return 1


def size():
    return SIZE


def look(x):
    return TABLE[x]


def other(SIZES):
    return SIZES.size
"""
USER = """\
from refimpl import connect
from refimpl.connect import SIZE as BYTES, Layout
from . import connect as again

DOUBLE = BYTES * 2


def one():
    return BYTES


def two():
    return connect.SIZE


def three():
    return again.TABLE


def four():
    return DOUBLE


def five():
    return Layout().method()


def six():
    match 1:
        case Layout.order:
            return 0


def seven(order):
    return order.SIZE
"""
TEST = """\
from refimpl.connect import SIZE
from refimpl.user import four

EXPECTED = SIZE + 1


def helper():
    return EXPECTED


def test_direct():
    assert SIZE


def test_through_helper():
    assert helper()


def test_not():
    assert four()


class TestIt:
    def test_inside(self):
        assert SIZE
"""


@pytest.fixture
def uses(small):
    small.write("refimpl/connect.py", MODULE)
    small.write("refimpl/user.py", USER)
    small.write("tests/test_x.py", TEST)
    citations = {c.id: c for s in scan(small.root, load(small.root)) for c in s.citations}
    return Uses(small.root), citations


def test_constant_is_used_by_name_through_tables_and_imports(uses):
    found, citations = uses
    names = found.carriers(citations["CONNECT-2"])
    assert {n for _, n in names} == {"SIZE", "BYTES", "TABLE", "DOUBLE"}
    assert found.statements_naming(names) == [
        "refimpl/connect.py:13",
        "refimpl/connect.py:17",
        "refimpl/user.py:9",
        "refimpl/user.py:13",
        "refimpl/user.py:17",
        "refimpl/user.py:21",
    ]


def test_class_is_used_by_its_name(uses):
    found, citations = uses
    names = found.carriers(citations["CONNECT-1"])
    assert list(found.statements_naming(names)) == ["refimpl/user.py:25", "refimpl/user.py:29"]


@pytest.mark.parametrize(
    ("test", "uses_it"),
    [("test_direct", True), ("test_through_helper", True), ("test_not", False), ("TestIt::test_inside", True)],
)
def test_tests_use_what_they_name(uses, test, uses_it):
    found, citations = uses
    names = found.carriers(citations["CONNECT-2"])
    assert bool(names & found.names_in_test("tests/test_x.py", test)) == uses_it
