"""All about one id."""

from __future__ import annotations

from refimpl.speclink.show import show


def test_requirement(tested):
    small, run = tested
    assert show(small.loaded(run), "CONNECT-2") == (
        "CONNECT-2  disputed  (must*, frontend, backend)\n"
        "  It has a `SIZE`.\n"
        "  stands in: Connect, item 2  (refimpl/connect.py)\n"
        "  erratum E-SIZE (A): 64.\n"
        "  draft D-1: Nothing. Published: Something.\n"
        "  code: refimpl/connect.py:1  under E-SIZE\n"
        "        SIZE = 64  # CONNECT-2 (E-SIZE)\n"
        "  test: proves  tests/test_x.py:9  test_two\n"
        "  proved on: shm"
    )


def test_requirement_with_nothing(small):
    assert show(small.loaded(), "RELEASE-1") == (
        "RELEASE-1  open  (must, backend)\n"
        "  It is released.\n"
        "  stands in: Release, sentence 1  (refimpl/release.py)\n"
        "  code: none\n"
        "  test: none"
    )


def test_erratum(tested):
    small, run = tested
    assert show(small.loaded(run), "E-SIZE") == (
        "E-SIZE  severity A, pinned on shm\n"
        "  problem:  Is it 64 or 65?\n"
        "  chosen:   64.\n"
        "  evidence: the document\n"
        "  requirements: CONNECT-2\n"
        "  code: refimpl/connect.py:1  under E-SIZE\n"
        "        SIZE = 64  # CONNECT-2 (E-SIZE)\n"
        "  test: proves  tests/test_x.py:9  test_two"
    )


def test_security_rule(tested):
    small, run = tested
    text = show(small.loaded(run), "SEC-B-1")
    assert text.startswith("SEC-B-1  proved  (backend)\n  Never trust.\n  shown by: fuzz\n")


def test_of_a_table_the_entry_is_shown(small):
    small.write("refimpl/release.py", "TABLE = {\n    1: 2,\n    3: 4,  # CONNECT-3\n}\n")
    assert "  code: refimpl/release.py:3\n        3: 4,  # CONNECT-3\n" in show(small.loaded(), "CONNECT-3")


def test_unknown_id(small):
    assert show(small.loaded(), "CONNECT-99") is None
