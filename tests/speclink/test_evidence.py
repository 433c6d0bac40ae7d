"""Recorded runs read back: of these sources, or said to be of others."""

from __future__ import annotations

import pytest

from refimpl.speclink import evidence


def read(small, file):
    findings: list = []
    return evidence.read(small.root, file, findings), [str(f) for f in findings]


def test_run_comes_back_as_it_was(tested):
    small, file = tested
    run, findings = read(small, file)
    assert findings == []
    assert [t.function for t in run.tests] == ["tests/test_x.py::test_one", "tests/test_x.py::test_two"]
    assert run.tests[0].ran == ("refimpl/connect.py:10",)
    evidence.write(file, run)
    assert read(small, file)[0] == run


def test_run_of_other_sources_is_refused(tested):
    small, file = tested
    small.replace("refimpl/connect.py", "return 2", "return 3")
    assert read(small, file) == (
        None,
        ["shm.json: is about commit c0ffee: refimpl/connect.py changed; record again"],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n{", "shm.json:2: malformed JSON: Expecting property name enclosed in double quotes"),
        ("[]", "shm.json: is no evidence of a recorded run: TypeError("),
        ("{}", "shm.json: is no evidence of a recorded run: KeyError('format')"),
        ('{"format": 9}', "shm.json: is no evidence of a recorded run: ValueError('format 9, not 1')"),
    ],
)
def test_what_is_no_run_is_said_to_be_none(small, text, message):
    run, findings = read(small, small.write("shm.json", text))
    assert run is None
    assert len(findings) == 1 and findings[0].startswith(message)


def test_missing_file_is_said_to_be_missing(small):
    assert read(small, small.root / "x.json") == (None, ["x.json: cannot be read: No such file or directory"])


def test_kept_run_follows_statements_that_moved(tested):
    small, file = tested
    run = evidence.read(small.root, file, [], check=False)
    small.replace("refimpl/connect.py", "\n\ndef size", "\nMORE = 1\n\n\ndef size")
    moved = evidence.carried_over(run, small.loaded().sources)
    assert [t.ran for t in moved.tests] == [("refimpl/connect.py:12",), ("refimpl/connect.py:1",)]
    assert not moved.is_whole


def test_kept_run_tells_nothing_of_statements_that_changed(tested):
    small, file = tested
    run = evidence.read(small.root, file, [], check=False)
    small.replace("refimpl/connect.py", "SIZE = 64", "SIZE = 65")
    assert [t.ran for t in evidence.carried_over(run, small.loaded().sources).tests] == [
        ("refimpl/connect.py:10",),
        (),
    ]


def test_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "x.txt"
    evidence.write_whole(file, "old")

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(evidence.os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        evidence.write_whole(file, "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x.txt", "old")]


def test_runs_are_joined_by_platform(small, run_of):
    one = run_of.test("test_a", ["refimpl/connect.py:10"], platform="xen", spec=("CONNECT-1",))
    two = run_of.test("test_b", ["refimpl/connect.py:1"], platform="linux", erratum=("E-SIZE",))
    nothing = run_of.test("test_c", [], platform="xen", spec=("CONNECT-1",))
    files = [run_of(one, nothing, file="1.json"), run_of(one, two, file="2.json")]
    runs = evidence.joined(evidence.read_all(small.root, files, []))
    assert [(run.platform, [t.function for t in run.tests], run.is_whole) for run in runs] == [
        ("linux", ["tests/test_x.py::test_b"], False),
        ("xen", ["tests/test_x.py::test_a"], False),
    ]
    assert set(runs[1].statements) == {"refimpl/connect.py:10"}
