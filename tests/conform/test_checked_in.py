"""The reports in spec/conformance: whole, of the catalogue as it is, and as refimpl's own ends still come out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from refimpl.conform import backend, frontend
from refimpl.conform.report import read_report
from refimpl.speclink import catalogue
from refimpl.speclink.project import find

PROJECT = find(Path(__file__).parent)
CATALOGUE = catalogue.load(PROJECT)
REPORTS = sorted((PROJECT / "spec" / "conformance").glob("*.json"))
PROBES = {"backend": backend.PROBES, "frontend": frontend.PROBES}


def lines_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [line for section in report["sections"] for line in section["requirements"]]


def test_refimpls_two_ends_are_there() -> None:
    assert {"refimpl-backend", "refimpl-frontend"} <= {path.stem for path in REPORTS}


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_report_is_of_the_catalogue_and_the_probes_as_they_are(path: Path) -> None:
    report = read_report(path.read_text())
    names = {probe.name for probe in PROBES[report["end"]]}
    for line in lines_of(report):
        known = CATALOGUE.requirements.get(line["id"]) or CATALOGUE.rules[line["id"]]
        assert line["text"] == known.text, f"{line['id']} reads otherwise by now: make the report anew"
        assert line["erratum"] is None or line["erratum"] in CATALOGUE.errata
        assert set(line["probes"]) <= names
    wanted = {r.id for r in CATALOGUE.requirements.values() if report["end"] in r.who and r.level != "info"}
    assert wanted <= {line["id"] for line in lines_of(report)}


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_table_beside_it_says_the_same(path: Path) -> None:
    report = read_report(path.read_text())
    table = path.with_suffix(".txt").read_text()
    shown = re.findall(r"^  ([A-Z][A-Z-]*-\d+) ", table, re.MULTILINE)
    assert shown == [line["id"] for line in lines_of(report)]
    counts = report["counts"]
    assert table.rstrip().endswith(
        f"{counts['pass']} pass, {counts['fail']} fail, {counts['differs']} differ under an erratum, "
        f"{counts['not observable']} not observable"
    )


@pytest.mark.parametrize("page", ["README.md", "spec/conformance/README.md"])
@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_pages_say_the_same_sums(path: Path, page: str) -> None:
    counts = read_report(path.read_text())["counts"]
    (row,) = re.findall(rf"^\| `{re.escape(path.stem)}` \| (.*) \|$", (PROJECT / page).read_text(), re.MULTILINE)
    assert row.split(" | ")[1:] == [str(counts[name]) for name in ("pass", "fail", "differs", "not observable")]


@pytest.mark.parametrize("path", [p for p in REPORTS if p.stem.startswith("refimpl")], ids=lambda path: path.stem)
def test_refimpl_fails_nothing(path: Path) -> None:
    assert read_report(path.read_text())["counts"]["fail"] == 0
