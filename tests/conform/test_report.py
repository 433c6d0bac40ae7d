"""The report: one line a requirement, the gravest verdict of its probes, the same in the table and in the JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refimpl.conform.probes import Differs, NotObservable, Probe, Probes, Verdict, expect, require
from refimpl.conform.report import FORMAT, Report, make_report, read_report
from refimpl.conform.walk import run
from refimpl.speclink import catalogue
from refimpl.speclink.project import find

CATALOGUE = catalogue.load(find(Path(__file__).parent))
probe = Probes()


@probe("SOCKET-5")
def passes(_subject: object) -> None:
    """It is so."""
    expect("a number", 3, {3, 4})


@probe("SOCKET-5", "SOCKET-6")
def differs(_subject: object) -> None:
    """It is so, or otherwise."""
    expect("a number", 5, 3, under="E-DUPID")


@probe("SOCKET-6")
def fails(_subject: object) -> None:
    """It is not so."""
    require(False, "it is not so")


@probe("SOCKET-7")
def is_not_seen(_subject: object) -> None:
    """Nobody knows."""
    raise NotObservable("it is dark")


def report_of(*probes: Probe, **options: object) -> Report:
    common = {"subject": "a backend", "platform": "shm", "hostile": False, "unseen": {"RING-11": "too late"}}
    outcomes = [run(each, None) for each in probes]
    return make_report("backend", CATALOGUE, outcomes, **{**common, **options})  # type: ignore[arg-type]


def test_a_probe_ends_in_one_of_four_ways() -> None:
    passed, differed, failed, unseen = (run(each, None) for each in probe.all)
    assert (passed.verdict, passed.seen, passed.erratum) == (Verdict.PASS, None, None)
    assert (differed.verdict, differed.seen, differed.erratum) == (Verdict.DIFFERS, "a number is 5, not 3", "E-DUPID")
    assert (failed.verdict, failed.seen) == (Verdict.FAIL, "it is not so")
    assert (unseen.verdict, unseen.seen) == (Verdict.NOT_OBSERVABLE, "it is dark")


def test_what_went_wrong_in_a_probe_is_its_failure_and_no_traceback() -> None:
    def lost(_subject: object) -> None:
        raise AssertionError("no response in time")

    outcome = run(Probe(("SOCKET-5",), lost, False), None)
    assert (outcome.verdict, outcome.seen) == (Verdict.FAIL, "no response in time")


def test_the_gravest_verdict_counts() -> None:
    lines = {line.id: line for line in report_of(*probe.all).lines}
    assert lines["SOCKET-5"].verdict is Verdict.DIFFERS
    assert lines["SOCKET-5"].probes == ("test_report.passes", "test_report.differs")
    assert (lines["SOCKET-6"].verdict, lines["SOCKET-6"].erratum) == (Verdict.FAIL, None)
    assert (lines["SOCKET-7"].verdict, lines["SOCKET-7"].seen) == (Verdict.NOT_OBSERVABLE, "it is dark")
    assert lines["RING-11"].seen == "too late"


def test_lines_stand_in_the_documents_order_and_only_the_ends_own() -> None:
    report = report_of()
    wanted = [r.id for r in CATALOGUE.requirements.values() if "backend" in r.who and r.level != "info"]
    order = [r.id for _, requirements in CATALOGUE.by_section() for r in requirements if r.id in wanted]
    assert [line.id for line in report.lines] == order
    assert "Hostile guests" not in report.sections
    assert "Hostile guests" in report_of(hostile=True).sections
    assert [line.id for line in report_of(only=("SOCKET-5", "POLL-3")).lines] == ["SOCKET-5", "POLL-3"]


def test_json_has_its_documented_shape() -> None:
    report = report_of(*probe.all, only=("SOCKET-5", "SOCKET-6", "SOCKET-7"))
    whole = read_report(report.to_json())
    assert list(whole) == [
        "format", "end", "subject", "platform", "protocol_version", "hostile", "counts", "sections",
    ]  # fmt: skip
    assert (whole["format"], whole["end"], whole["subject"], whole["platform"]) == (
        FORMAT,
        "backend",
        "a backend",
        "shm",
    )
    assert whole["counts"] == {"not observable": 1, "pass": 0, "differs": 1, "fail": 1}
    (section,) = whole["sections"]
    assert section["heading"] == "Socket"
    assert section["requirements"][0] == {
        "id": "SOCKET-5",
        "level": "must*",
        "text": CATALOGUE.requirements["SOCKET-5"].text,
        "verdict": "differs",
        "erratum": "E-DUPID",
        "seen": "a number is 5, not 3",
        "probes": ["test_report.passes", "test_report.differs"],
    }


def test_json_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="no conformance report"):
        read_report(json.dumps({"format": FORMAT + 1}))


def test_table_says_what_was_seen_and_ends_with_the_sums() -> None:
    text = report_of(*probe.all).to_text()
    assert "differs E-DUPID" in text
    assert "FAIL" in text and "it is not so" in text and "(it is dark)" in text
    assert text.endswith("not observable\n") and ", 1 fail, 1 differ under an erratum, " in text
    assert max(map(len, text.splitlines())) <= 120


def test_erratum_named_by_a_probe_is_an_exception_of_its_own() -> None:
    with pytest.raises(Differs) as caught:
        expect("a number", 5, 3, under="E-DUPID")
    assert caught.value.erratum == "E-DUPID"
