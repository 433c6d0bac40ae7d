"""Recorded runs, whole: a small project's tests in a pytest of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CODE = """\
SIZE = 64  # CONNECT-2


def size():
    return SIZE


def connect(x):
    if x:
        return 1  # CONNECT-1
    return 2
"""
TESTS = """\
import multiprocessing, os, signal, subprocess, sys, threading
import pytest
from refimpl import connect

SPEC = pytest.mark.spec("CONNECT-1")
CHILD = "from refimpl import connect; connect.connect(1); import os; os.kill(os.getpid(), 9)"


@SPEC
def test_reached(): connect.connect(1)

@SPEC
def test_not_reached(): connect.connect(0)

@SPEC
def test_failed():
    connect.connect(1)
    assert False

@pytest.mark.spec("CONNECT-1")
@pytest.mark.xfail(strict=True)
def test_expected_to_fail():
    connect.connect(1)
    assert False

def test_names_nothing(): connect.connect(1)

@SPEC
def test_in_thread():
    thread = threading.Thread(target=connect.connect, args=(1,))
    thread.start()
    thread.join()

@SPEC
def test_in_killed_child():
    assert subprocess.run([sys.executable, "-c", CHILD]).returncode == -9

@SPEC
def test_in_fork():
    process = multiprocessing.get_context("fork").Process(target=connect.connect, args=(1,))
    process.start()
    process.join()

@SPEC
def test_in_child_that_is_told_nothing():
    bare = {"PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", CHILD], env=bare)

@pytest.fixture(scope="module")
def shared():
    connect.connect(1)
    child = subprocess.Popen([sys.executable, "-c", "input();" + CHILD], stdin=subprocess.PIPE)
    gate = threading.Event()
    inner = threading.Thread(target=connect.connect, args=(1,))
    thread = threading.Thread(target=lambda: (gate.wait(), connect.connect(1), inner.start(), inner.join()))
    thread.start()
    yield child, gate, thread
    child.kill()
    child.communicate()

@SPEC
def test_of_what_is_shared(shared):
    child, gate, thread = shared
    child.communicate(b"\\n")
    gate.set()
    thread.join()

@pytest.fixture
def closing():
    yield
    connect.connect(1)

@SPEC
def test_of_teardown(closing): pass

@pytest.fixture
def failing_teardown():
    yield
    raise OSError

@SPEC
def test_whose_teardown_fails(failing_teardown): connect.connect(1)

@pytest.fixture
def own(): connect.connect(1)

@SPEC
def test_of_own_fixture(own): pass

@pytest.mark.spec("CONNECT-2")
@pytest.mark.erratum("E-SIZE")
def test_of_definition(record_property):
    record_property("platform", "xen")
    assert connect.size() == 64

@pytest.mark.spec("CONNECT-2")
def test_of_definition_not_used(): connect.connect(0)
"""
REACHED = {
    "test_reached": ["CONNECT-1"],
    "test_not_reached": [],
    "test_in_thread": ["CONNECT-1"],
    "test_in_killed_child": ["CONNECT-1"],
    "test_in_fork": ["CONNECT-1"],
    "test_in_child_that_is_told_nothing": [],
    "test_of_what_is_shared": [],
    "test_of_teardown": [],
    "test_of_own_fixture": ["CONNECT-1"],
    "test_of_definition": ["CONNECT-2"],
    "test_of_definition_not_used": [],
}
LINES = {"refimpl/connect.py:1": "CONNECT-2", "refimpl/connect.py:10": "CONNECT-1"}


@pytest.fixture
def run(small):
    """Run pytest in the small project; returns its exit status and what it printed."""
    small.make_importable()
    small.write("refimpl/connect.py", CODE)
    small.write("tests/test_it.py", TESTS)

    def run(*arguments: str, module: str = "pytest", **variables: str) -> tuple[int, str]:
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly"] if module == "pytest" else []
        command = [sys.executable, "-m", module, *options, *arguments]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "REFIMPL"))}
        environment = {**kept, "PYTHONPATH": str(small.root), **variables}
        result = subprocess.run(command, cwd=small.root, env=environment, capture_output=True, text=True, timeout=100)
        return result.returncode, result.stdout + result.stderr

    return run


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_tests_reach_is_recorded(small, run, workers):
    status, output = run("-n", workers, "--evidence", "out/shm.json")
    assert status == 1, output
    assert f"evidence of 11 marked tests (every test ran): {small.root}/out/shm.json" in output
    content = json.loads((small.root / "out/shm.json").read_text())
    reached = {t["test"].rpartition("::")[2]: [LINES[key] for key in t["ran"]] for t in content["tests"]}
    assert reached == REACHED
    assert content["is_whole"] is True
    platforms = {t["test"].rpartition("::")[2]: t["platform"] for t in content["tests"]}
    assert platforms.pop("test_of_definition") == "xen"
    assert set(platforms.values()) == {"shm"}


def test_part_of_the_tests_is_said_to_be_one(small, run):
    status, output = run("-n0", "--evidence", "shm.json", "--evidence-platform", "linux", "-k", "test_reached")
    assert (status, "(a part of the tests ran)" in output) == (0, True)
    content = json.loads((small.root / "shm.json").read_text())
    assert (content["is_whole"], content["platform"]) == (False, "linux")


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("cut", ["broken", "-x"])
def test_run_that_was_cut_short_is_no_whole_one(small, run, workers, cut):
    if cut == "broken":
        small.write("tests/test_broken.py", "import nothing_of_this_name\n")
    status, output = run("-n", workers, "--evidence", "shm.json", *([cut] if cut == "-x" else []))
    assert status != 0
    assert "(a part of the tests ran)" in output
    assert json.loads((small.root / "shm.json").read_text())["is_whole"] is False


@pytest.mark.parametrize("workers", ["0", "2"])
def test_unknown_ids_fail_the_collection(small, run, workers):
    small.write("tests/test_it.py", 'import pytest\n@pytest.mark.spec("CONNECT-99")\ndef test_x(): ...\n')
    status, output = run("-n", workers)
    assert status != 0
    assert "tests/test_it.py:2: test_x names 'CONNECT-99', which is no spec id of spec/" in output
    assert "INTERNALERROR" not in output


def test_catalogue_that_cannot_be_read_fails_the_collection(small, run):
    small.write("spec/errata.toml", "[[erratum]]\nid\n")
    status, output = run("-n0")
    assert status != 0
    assert "spec/errata.toml:2: malformed TOML: Expected '=' after a key in a key/value pair" in output


def test_nothing_is_left_behind(small, run, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    run("-n", "2", "--evidence", "shm.json", "-k", "test_in")
    run("-n", "0", "--evidence", "shm.json", "--no-such-option")
    assert [p.name for p in folder.iterdir() if p.name.startswith("refimpl-")] == []


def test_what_was_prepared_beforehand_is_used_as_it_is(small, run, tmp_path):
    """Made where the project is seen elsewhere: nothing of its sources is read for it, but for the tests' own."""
    prepared = str(tmp_path / "prepared")
    elsewhere = run(str(small.root), prepared, str(small.root), module="refimpl.speclink.preparation")
    assert elsewhere == (0, "")
    small.replace("refimpl/connect.py", "# CONNECT-1", "# CONNECT-9")
    run("-n0", "--evidence", "shm.json", REFIMPL_EVIDENCE_PREPARED=prepared)
    content = json.loads((small.root / "shm.json").read_text())
    reached = {t["test"].rpartition("::")[2]: [LINES[key] for key in t["ran"]] for t in content["tests"]}
    assert reached == REACHED
