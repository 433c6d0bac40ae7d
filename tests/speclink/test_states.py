"""What is said of a requirement, by what is cited, named and reached."""

from __future__ import annotations

import pytest

from refimpl.speclink import mutants
from refimpl.speclink.project import Project

LINE = "refimpl/connect.py:10"


def state(project: Project, id: str = "CONNECT-1") -> str:
    return str(project.standings[id].state)


def name(small, *ids: str) -> None:
    small.write("tests/test_x.py", f"import pytest\n@pytest.mark.spec{ids}\ndef test_one(): ...\n".replace(",)", ")"))


def test_neither_cited_nor_named_is_open(small):
    assert state(small.loaded(), "RELEASE-1") == "open"


def test_cited_only_is_untested(small):
    assert state(small.loaded()) == "untested"


def test_named_only_is_hollow(small):
    name(small, "RELEASE-1")
    assert state(small.loaded(), "RELEASE-1") == "hollow"


def test_named_and_not_reached_is_hollow(small, run_of):
    name(small, "CONNECT-1")
    assert state(small.loaded(run_of(run_of.test("test_one", [], spec=("CONNECT-1",))))) == "hollow"


def test_reached_by_a_test_that_names_it_is_proved(tested):
    small, run = tested
    project = small.loaded(run)
    assert state(project) == "proved"
    assert project.standings["CONNECT-1"].proofs == {"shm": ["tests/test_x.py::test_one"]}
    assert state(project, "SEC-B-1") == "proved"


def test_reached_by_a_test_that_names_another_is_not(small, run_of):
    name(small, "CONNECT-1")
    assert state(small.loaded(run_of(run_of.test("test_one", [LINE], spec=("CONNECT-2",))))) == "hollow"


def test_proved_under_an_erratum_is_disputed(tested):
    small, run = tested
    assert state(small.loaded(run), "CONNECT-2") == "disputed"


def test_information_stays_information(small):
    assert state(small.loaded(), "CONNECT-3") == "information"


def test_more_than_four_ids_prove_none(small, run_of):
    name(small, "CONNECT-1")
    ids = ("CONNECT-1", "CONNECT-2", "CONNECT-3", "RELEASE-1", "RELEASE-2")
    assert state(small.loaded(run_of(run_of.test("test_one", [LINE], spec=ids)))) == "hollow"
    assert state(small.loaded(run_of(run_of.test("test_one", [LINE], spec=ids[:4])))) == "proved"


def test_waiver_waits_until_it_is_proved(tested):
    small, run = tested
    small.replace(
        "spec/requirements/connect.toml", 'It connects."\n', 'It connects."\nwaits_for = "xen"\nreason = "grants"\n'
    )
    assert state(small.loaded()) == "waits"
    assert state(small.loaded(run)) == "proved"


def test_platforms_are_joined_from_several_runs(tested, run_of):
    small, run = tested
    test = run_of.test("test_one", [LINE], platform="linux", spec=("CONNECT-1",))
    other = run_of(test, platform="xen", file="xen.json")
    assert small.loaded(run, other).standings["CONNECT-1"].platforms == ["shm", "linux"]


def test_runs_in_the_usual_folder_count_unless_they_are_of_other_sources(tested):
    small, run = tested
    small.write("build/evidence/shm.json", run.read_text())
    assert state(small.loaded()) == "proved"
    small.write("refimpl/connect.py", (small.root / "refimpl/connect.py").read_text() + "# more\n")
    project = small.loaded()
    assert state(project) == "hollow"
    assert project.findings == []


def test_kept_runs_count_where_the_statement_reads_the_same(tested):
    small, run = tested
    small.write("spec/evidence/xen.json", run.read_text().replace('"shm"', '"xen"'))
    small.write("refimpl/connect.py", "MORE = 1\n" + (small.root / "refimpl/connect.py").read_text())
    assert small.loaded().standings["CONNECT-1"].platforms == ["xen"]


@pytest.mark.parametrize(("verdict", "expected"), [(mutants.SURVIVED, "executed"), (mutants.KILLED, "proved")])
def test_statement_that_can_go_is_executed_only(tested, verdict, expected):
    small, run = tested
    project = small.loaded(run)
    (citation,) = project.standings["CONNECT-1"].citations
    known = mutants.Digests(small.root, project.tests).of(citation)
    mutants.write(small.root, [mutants.Verdict(verdict, *known)])
    assert state(small.loaded(run)) == expected


def test_verdict_on_another_statement_or_other_tests_says_nothing(tested):
    small, run = tested
    project = small.loaded(run)
    (citation,) = project.standings["CONNECT-1"].citations
    known = mutants.Digests(small.root, project.tests).of(citation)
    mutants.write(small.root, [mutants.Verdict(mutants.SURVIVED, *known)])
    small.replace("tests/test_x.py", "def test_one(): ...", "def test_one(): assert 1")
    assert state(small.loaded(run)) == "proved"


def test_errata_are_pinned_by_tests_that_passed(tested):
    small, run = tested
    assert not small.loaded().errata["E-SIZE"].is_pinned
    standing = small.loaded(run).errata["E-SIZE"]
    assert standing.is_pinned
    assert standing.platforms == ["shm"]
