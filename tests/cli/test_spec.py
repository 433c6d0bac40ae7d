"""``refimpl spec``: what it prints, its exit statuses, and that a file is written whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from refimpl.cli.spec import spec

ROOT = Path(__file__).parents[2]

SECTIONS = """\
[[section]]
id = "connect"
heading = "Connect"
level = 4
module = "refimpl/connect.py"
"""
CONNECT = """\
section = "connect"
prefix = "CONNECT"

[[requirement]]
id = "CONNECT-1"
who = ["backend"]
level = "must"
text = "It connects."

[document]
sentences = [
  { at = 1, kind = "sentence", says = ["CONNECT-1"], sha256 = "%s" },
]
""" % ("0" * 64)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of one requirement."""
    for path, text in {
        "spec/sections.toml": SECTIONS,
        "spec/requirements/connect.toml": CONNECT,
        "spec/errata.toml": "",
        "spec/security.toml": "",
        "spec/drafts.toml": "",
        "refimpl/connect.py": "x = 1  # CONNECT-1\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(spec, [str(a) for a in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_check_prints_a_line_a_finding_and_exits_1(folder):
    document = folder / "document.html"
    document.write_text("<h1>PV Calls Protocol</h1><h4>Connect</h4>")
    status, output, error = run("check", "--project", folder, "--document", document)
    assert status == 1
    assert output.splitlines() == [
        "spec/coverage.txt: is missing; record a run (pytest --evidence build/evidence/shm.json),"
        " then: refimpl spec coverage --write",
        "spec/requirements/connect.toml:12: sentence 1 (CONNECT-1) is gone",
        "spec/sections.toml: heading 'PV Calls Protocol' of this copy of the document is not in sections.toml",
    ]
    assert error == "3 findings\n"


def test_malformed_catalogue_is_one_clear_line(folder):
    (folder / "spec/errata.toml").write_text("[[erratum]]\nid = \n")
    status, output, _ = run("check", "--project", folder)
    assert status == 1
    assert "spec/errata.toml:2: malformed TOML: Invalid value" in output.splitlines()


COMMANDS = [
    "check",
    "report",
    "show CONNECT-1",
    "where words",
    "source",
    "coverage",
    "coverage --write",
    "html o",
    "mutate",
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("spec/errata.toml", "[[erratum]]\nid = \n", ":2: malformed TOML: Invalid value"),
        (
            "spec/requirements/connect.toml",
            CONNECT.replace("[document]", CONNECT[CONNECT.index("[[req") : CONNECT.index("[document]")] + "[document]"),
            ":10: CONNECT-1 is there twice, first at spec/requirements/connect.toml:4",
        ),
    ],
    ids=["malformed", "twice"],
)
def test_a_mistake_in_the_catalogue_is_one_clear_line_in_every_command(folder, monkeypatch, command, file, text, says):
    monkeypatch.chdir(folder)
    (folder / file).write_text(text)
    before = sorted(folder.rglob("*"))
    status, output, error = run(*command.split())
    assert status == 1
    assert (output + error).removesuffix("1 finding\n").splitlines() == [file + says]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "command", ["check", "report", "show CONNECT-1", "where words", "source", "coverage", "vectors"]
)
def test_no_project_is_misuse(tmp_path, command):
    status, _, error = run(*command.split(), "--project", tmp_path)
    assert status == 2
    assert f"{tmp_path}: no spec/sections.toml in this folder or above" in error


def test_evidence_that_is_none_is_a_finding(folder):
    (folder / "x.json").write_text("{}")
    status, output, _ = run("check", "--project", folder, "--evidence", folder / "x.json")
    assert status == 1
    assert "x.json: is no evidence of a recorded run: KeyError('format')" in output


@pytest.mark.parametrize("command", ["report", "show CONNECT-1", "coverage", "html o", "mutate"])
def test_a_run_that_was_asked_for_and_is_of_other_sources_is_one_clear_line(folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    run_of = {"format": 1, "platform": "shm", "commit": "c0ffee", "is_whole": True, "statements": {}, "tests": []}
    run_of |= {"sources": {"refimpl/connect.py": "0"}, "test_sources": {}}
    (folder / "x.json").write_text(json.dumps(run_of))
    says = "x.json: is about commit c0ffee: refimpl/connect.py changed; record again\n"
    assert run(*command.split(), "--evidence", "x.json") == (1, "", says)
    assert run(*command.split(), "--evidence", "nothing.json")[0] == 2
    assert not (folder / "o").exists()


def test_coverage_shows_what_is_checked_in_where_no_run_decides(folder):
    line = "CONNECT-1           must   proved       shm            refimpl/connect.py"
    (folder / "spec/coverage.txt").write_text(line + "\n")
    assert line in run("coverage", "--project", folder)[1].splitlines()


def test_report_for_people_and_programs(folder):
    status, output, _ = run("report", "--project", folder)
    assert (status, output.splitlines()[0]) == (0, "1 requirements, 1 of them must")
    status, output, _ = run("report", "--json", "--project", folder)
    totals = json.loads(output)
    assert set(totals) >= {"requirements", "states", "platforms", "errata", "sections"}
    assert totals["states"]["untested"] == 1


def test_show_takes_ids_in_any_case_and_helps_with_unknown_ones(folder):
    status, output, _ = run("show", "connect-1", "--project", folder)
    assert (status, output.splitlines()[0]) == (0, "CONNECT-1  untested  (must, backend)")
    status, _, error = run("show", "CONNECT-2", "--project", folder)
    assert status == 2
    assert "there is no CONNECT-2; near it: CONNECT-1" in error


def test_where_leads_from_a_line_and_from_words(folder, monkeypatch):
    monkeypatch.chdir(folder / "refimpl")
    assert run("where", "connect.py:1") == (0, "this statement keeps (the module):\n  CONNECT-1     It connects.\n", "")
    monkeypatch.chdir(folder)
    assert run("where", "refimpl/connect.py:1")[0] == 0
    status, output, _ = run("where", "what connects")
    assert (status, output.splitlines()[0]) == (0, "~ CONNECT-1     Connect")
    assert run("where", "zebra")[0] == 1
    assert run("where", "refimpl/nothing.py:1")[0] == 2
    assert run("where", "--section", "Nothing", "words")[0] == 2


def test_source_refuses_what_is_no_copy(folder):
    (folder / "x.html").write_text("<h1>Something else</h1>")
    status, _, error = run("source", folder / "x.html", "--project", folder)
    assert status == 2
    assert "no copy of the PV Calls document" in error
    assert run("source", folder / "missing.html", "--project", folder)[0] == 2


def test_coverage_is_not_written_without_a_whole_run(folder):
    status, _, error = run("coverage", "--write", "--project", folder)
    assert status == 2
    assert "no up-to-date run of all tests is at hand" in error
    assert not (folder / "spec/coverage.txt").exists()
    line = "CONNECT-1           must   untested     -              refimpl/connect.py"
    assert line in run("coverage", "--project", folder)[1].splitlines()


@pytest.mark.parametrize("command", ["html", "coverage"])
def test_nothing_is_written_over_findings(folder, command):
    (folder / "refimpl/connect.py").write_text("x = 1  # CONNECT-99\n")
    out = folder / "out.html"
    status, _, error = run(*([command, out] if command == "html" else [command]), "--project", folder)
    assert status == 1
    assert "refimpl/connect.py:1: cites CONNECT-99, which is not in spec/" in error
    assert not out.exists()


def test_html_writes_the_page(folder):
    out = folder / "out.html"
    status, output, _ = run("html", out, "--project", folder)
    assert status == 0
    assert output.startswith(f"{out}: 0.")
    assert out.read_text().startswith("<!DOCTYPE html>")


def test_html_into_a_place_that_is_none_is_misuse(folder):
    (folder / "file").write_text("")
    status, _, error = run("html", folder / "file" / "out.html", "--project", folder)
    assert status == 2
    assert "out.html" in error


def test_check_needs_nothing_heavy():
    """It runs before every commit."""
    script = (
        "import sys\nfrom refimpl.cli.spec import spec\n"
        "try:\n    spec(['check'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'pytest', 'rich', 'posix_ipc', 'pyxs', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.replace("findings\n", "").replace("finding\n", "").strip(" 0123456789")) == (
        0,
        "",
    )


def test_keep_refuses_runs_of_other_sources(folder):
    run_file = folder / "xen.json"
    content = {
        "format": 1, "platform": "xen", "commit": "c0ffee", "is_whole": False, "test_sources": {}, "statements": {},
        "sources": {"refimpl/connect.py": "0" * 64}, "tests": [],
    }  # fmt: skip
    run_file.write_text(json.dumps(content))
    status, _, error = run("keep", run_file, "--project", folder)
    assert status == 1
    assert error == "xen.json: is about commit c0ffee: refimpl/connect.py changed; record again\n"
    content["sources"] = {}
    content["tests"] = [
        {"test": "t.py::test", "platform": "xen", "spec": [], "erratum": ["E-X"], "security": [], "ran": []}
    ]
    run_file.write_text(json.dumps(content))
    assert run("keep", run_file, "--project", folder) == (0, "spec/evidence/xen.json: 1 tests\n", "")
    assert (folder / "spec/evidence/xen.json").is_file()
