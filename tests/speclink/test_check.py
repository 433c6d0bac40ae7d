"""Everything the check refuses, one at a time."""

from __future__ import annotations

import pytest

from refimpl.speclink import coverage_file, mutants
from refimpl.speclink.check import check

CONNECT = "spec/requirements/connect.toml"


@pytest.fixture
def right(tested):
    """The small project with nothing to say about it: ``right(strict=...)`` checks it."""
    small, run = tested
    coverage_file.write(small.loaded(run))

    def found(*, strict: bool = False, with_run: bool = False, document: str = "document.html") -> list[str]:
        project = small.loaded(*([run] if with_run else []))
        return [str(f) for f in check(project, strict=strict, document_file=small.root / document)]

    found.small = small
    return found


def test_small_project_is_right(right):
    assert right() == []
    assert right(with_run=True) == []


def test_heading_without_its_module(right):
    (right.small.root / "refimpl/release.py").unlink()
    assert right() == ["spec/sections.toml:17: heading 'Release' has no module: refimpl/release.py is not there"]


def test_unknown_ids_in_code_and_tests(right):
    right.small.replace("refimpl/connect.py", "return 2", "return 2  # CONNECT-77")
    right.small.replace("tests/test_x.py", '"SEC-B-1"', '"SEC-B-77"')
    found = right()
    assert "refimpl/connect.py:11: cites CONNECT-77, which is not in spec/" in found
    assert "tests/test_x.py:4: test_one names SEC-B-77, which is no security id of spec/" in found


@pytest.mark.parametrize("with_run", [False, True])
def test_waiver_of_what_is_proved(right, with_run):
    right.small.replace(CONNECT, 'It connects."\n', 'It connects."\nwaits_for = "xen"\nreason = "grants"\n')
    assert f"{CONNECT}:4: CONNECT-1 waits for xen, and is proved: take waits_for out" in right(with_run=with_run)


def test_waiver_of_an_erratum_that_is_pinned(right):
    right.small.replace(
        "spec/errata.toml", 'evidence = "the document"\n', 'evidence = "x"\nwaits_for = "linux"\nreason = "y"\n'
    )
    assert right() == ["spec/errata.toml:1: E-SIZE waits for linux, and is pinned: take waits_for out"]


def test_pin_that_disagrees_with_the_document(right):
    right.small.replace("document.html", "That is useful.", "That is useless.")
    assert right() == [f"{CONNECT}:26: sentence 3 (CONNECT-3) reads differently"]


def test_document_of_another_kind(right):
    right.small.write("other.html", "<h1>Other</h1>")
    (finding,) = right(document="other.html")
    assert finding.endswith("other.html: no copy of the PV Calls document (its first heading is missing)")


def test_stale_coverage(right):
    right.small.replace("spec/coverage.txt", "CONNECT-1           must   proved", "CONNECT-1           must   open  ")
    (finding,) = right()
    assert finding.startswith("spec/coverage.txt:7: stale: CONNECT-1 was open, and now a test names it")


def test_strict_refuses_a_must_that_nobody_proved(right):
    assert right(strict=True, with_run=True) == ["spec/requirements/release.toml:4: RELEASE-1 (must) is open"]


def test_strict_wants_a_whole_run_of_these_sources(right):
    assert right(strict=True)[0] == (
        "build/evidence: no recorded run of all tests on these sources is at hand:"
        " pytest --evidence build/evidence/shm.json"
    )


def test_strict_takes_a_waiver(right, tested):
    small, run = tested
    small.replace("spec/requirements/release.toml", 'text = "It', 'waits_for = "xen"\nreason = "y"\ntext = "It')
    coverage_file.write(small.loaded(run))
    assert right(strict=True, with_run=True) == []


@pytest.mark.parametrize(("id", "line"), [("CONNECT-1", 10), ("SEC-B-1", 10), ("CONNECT-2", 1)])
def test_strict_refuses_what_no_test_notices_as_long_as_it_reads_the_same(right, id, line):
    project = right.small.loaded()
    (citation,) = (c for c in project.citations if c.id == id)
    mutants.Ledger(right.small.root, project.citations, project.tests).add(citation, mutants.SURVIVED)
    finding = f"refimpl/connect.py:{line}: {id}: no test that names it fails with this statement taken out"
    finding += " (spec/mutations.txt)"
    assert finding in right(strict=True)
    assert finding not in right()
    right.small.replace(
        "refimpl/connect.py", "return 1  #" if line == 10 else "64", "return  3 #" if line == 10 else "65"
    )
    assert finding not in right(strict=True)


@pytest.mark.parametrize(("severity", "is_refused"), [("A", True), ("B", True), ("C", False)])
def test_strict_refuses_severe_errata_without_a_test(right, severity, is_refused):
    right.small.replace("spec/errata.toml", 'severity = "A"', f'severity = "{severity}"')
    right.small.replace("tests/test_x.py", '@pytest.mark.erratum("E-SIZE")\n', "")
    wanted = f"spec/errata.toml:1: E-SIZE (severity {severity}) has no test that pins it"
    assert (wanted in right(strict=True)) == is_refused


def test_catalogue_that_cannot_be_read_is_one_finding(right):
    right.small.replace("spec/errata.toml", "id =", "id")
    assert right() == ["spec/errata.toml:2: malformed TOML: Expected '=' after a key in a key/value pair"]


def test_every_finding_is_one_line_and_there_once(right):
    right.small.replace(CONNECT, 'id = "CONNECT-2"', 'id = "CONNECT-1"')
    found = right()
    assert len(set(found)) == len(found)
    assert all("\n" not in finding for finding in found)


def test_this_project_has_no_findings_but_stale_states(real):
    assert [str(f) for f in check(real) if not f.path.startswith(("spec/coverage.txt", "tests/"))] == []
