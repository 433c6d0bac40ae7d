"""Mutation, whole: the tests of a small project notice, or do not."""

from __future__ import annotations

import dataclasses

import pytest

from refimpl.speclink import mutants, mutation

TESTS = """\
import pytest
from refimpl import connect

@pytest.mark.spec("CONNECT-1")
def test_notices(): assert connect.connect(1) == 1

@pytest.mark.spec("CONNECT-2")
def test_does_not_notice(): connect.size()

@pytest.mark.spec("RELEASE-1")
def test_waits_for_ever():
    from refimpl import release
    assert release.release() == 1
"""
RELEASE = """\
def release():
    done = False
    while not done:
        done = True  # RELEASE-1
    return 1
"""


@pytest.fixture
def mutable(small, run_of, monkeypatch):
    small.make_importable()
    small.write("refimpl/release.py", RELEASE)
    small.write("tests/test_x.py", TESTS)
    monkeypatch.setenv("PYTHONPATH", str(small.root))
    monkeypatch.setattr(mutation, "_TEST_TIMEOUT", 2)
    tests = [
        run_of.test("test_notices", ["refimpl/connect.py:10"], spec=("CONNECT-1",)),
        run_of.test("test_does_not_notice", ["refimpl/connect.py:1"], spec=("CONNECT-2",)),
        run_of.test("test_waits_for_ever", ["refimpl/release.py:4"], spec=("RELEASE-1",)),
    ]
    return small, run_of(*tests)


def test_statements_are_tried_and_verdicts_kept(mutable):
    small, run = mutable
    project = small.loaded(run)
    citations = mutation.candidates(project)
    told = []
    outcomes = mutation.run(project, citations, told.append, jobs=2)
    assert {o.citation.id: (o.verdict, o.what) for o in outcomes} == {
        "CONNECT-1": (mutants.KILLED, "added 1 to what is returned"),
        "CONNECT-2": (mutants.SURVIVED, "added 1 to the value"),
        "RELEASE-1": (mutants.KILLED, "negated the value"),
    }
    assert sorted(told) == sorted(outcomes)
    assert str(small.loaded(run).standings["CONNECT-2"].state) == "executed"
    assert mutation.candidates(small.loaded(run), only_new=True) == []
    small.replace("refimpl/release.py", "done = True", "done =  not False")
    assert mutation.candidates(small.loaded(run), only_new=True) == []  # the run is of the old source


def test_a_run_broken_off_has_kept_what_it_found(mutable):
    small, run = mutable
    project = small.loaded(run)
    citations = mutation.candidates(project)

    def stop(outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mutation.run(project, citations, stop, jobs=1)
    (verdict,) = mutants.read(small.root, [])
    left = mutation.candidates(small.loaded(run), only_new=True)
    assert sorted([verdict.id, *(citation.id for citation in left)]) == sorted(c.id for c in citations)


def test_the_packages_own_tests_are_tried_first(small, run_of):
    small.write("refimpl/data_ring/indexes.py", "def size():\n    return 2  # CONNECT-2\n")
    key = "refimpl/data_ring/indexes.py:2"
    near, far = (
        dataclasses.replace(run_of.test("", [key], spec=("CONNECT-2",)), test=name)
        for name in ("tests/data_ring/test_indexes.py::test_x", "tests/backend/test_a.py::test_y")
    )
    project = small.loaded(run_of(far, near))
    (citation,) = mutation.candidates(project, ["CONNECT-2"])
    assert mutation._proving(project, citation) == [near.test, far.test]


def test_only_what_is_asked_for_is_tried(mutable):
    small, run = mutable
    assert [c.id for c in mutation.candidates(small.loaded(run), ["CONNECT-2"])] == ["CONNECT-2"]


def test_a_test_that_ran_on_another_platform_is_not_asked(small, run_of):
    run = run_of(
        run_of.test("test_here", ["refimpl/connect.py:1"], spec=("CONNECT-2",)),
        run_of.test("test_there", ["refimpl/connect.py:1"], platform="xen", spec=("CONNECT-2",)),
        run_of.test("test_there", ["refimpl/connect.py:10"], platform="xen", spec=("CONNECT-1",)),
    )
    (citation,) = mutation.candidates(small.loaded(run))
    assert mutation._proving(small.loaded(run), citation) == ["tests/test_x.py::test_here"]


def test_what_no_test_proves_is_not_tried(mutable):
    small, _ = mutable
    assert mutation.candidates(small.loaded()) == []


def test_line_for_a_survivor_names_the_tests_that_pass(mutable):
    small, run = mutable
    project = small.loaded(run)
    (citation,) = mutation.candidates(project, ["CONNECT-2"])
    outcome = mutation.Outcome(citation, "removed it", ("tests/test_x.py::test_y",), mutants.SURVIVED)
    assert list(mutation.lines(outcome)) == [
        "survived  CONNECT-2     refimpl/connect.py:1  removed it",
        "          passes still: tests/test_x.py::test_y",
    ]


def test_verdicts_come_back_as_written(tmp_path):
    verdicts = [mutants.Verdict("killed", "a" * 12, "b" * 12, "CONNECT-1", "refimpl/x.py")]
    (tmp_path / "spec").mkdir()
    mutants.write(tmp_path, verdicts)
    findings: list = []
    assert mutants.read(tmp_path, findings) == verdicts
    (tmp_path / "spec/mutations.txt").write_text("# x\nmaybe a b c d\n")
    assert mutants.read(tmp_path, findings) == []
    assert [str(f) for f in findings] == ["spec/mutations.txt:2: is no line of this file"]
