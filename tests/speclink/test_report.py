"""Totals, for programs and for people."""

from __future__ import annotations

import json

from refimpl.speclink import coverage_file, report


def test_totals_of_a_run(tested):
    small, run = tested
    totals = report.totals(small.loaded(run))
    assert json.loads(json.dumps(totals)) == totals
    assert totals["requirements"] == 4
    assert totals["states"] == {
        "information": 1, "proved": 1, "disputed": 1, "waits": 0, "executed": 0, "hollow": 0, "untested": 0, "open": 1,
    }  # fmt: skip
    assert totals["platforms"] == {"shm": 2, "xen": 0, "linux": 0}
    assert totals["errata"] == {
        "total": 1,
        "pinned": 1,
        "severity": {s: {"total": int(s == "A"), "pinned": int(s == "A")} for s in "ABC"},
    }
    assert [(s["id"], s["requirements"], s["states"]) for s in totals["sections"]] == [
        ("title", 0, {}),
        ("connect", 3, {"proved": 1, "disputed": 1, "information": 1}),
        ("release", 1, {"open": 1}),
    ]
    assert totals["source"] == "run"


def test_without_a_run_the_checked_in_states_count(tested):
    small, run = tested
    coverage_file.write(small.loaded(run))
    totals = report.totals(small.loaded())
    assert totals["states"]["proved"] == 1
    assert totals["platforms"]["shm"] == 2
    assert totals["source"] == "spec/coverage.txt"


def test_report_for_a_person(tested):
    small, run = tested
    text = report.as_text(report.totals(small.loaded(run)))
    assert text.splitlines()[0] == "4 requirements, 3 of them must"
    assert "proved on: shm 2, xen 0, linux 0" in text
    assert "errata pinned: 1 of 1 (A 1 of 1, B 0 of 0, C 0 of 0)" in text
    assert "Connect                        3  1 proved, 1 disputed, 1 information" in text


def test_report_says_where_its_states_are_from(small):
    text = report.as_text(report.totals(small.loaded()))
    assert text.endswith("States as in spec/coverage.txt: no recorded run of all tests is at hand.")
