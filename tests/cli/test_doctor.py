"""`refimpl doctor`, with real runs that live and that were killed."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from refimpl.cli import doctor as doctor_module

from .conftest import Host


def look(run, directory: str, *options: str) -> tuple[int, list[dict]]:
    done = run("doctor", "--run", directory, "--platform", "shm", "--json", *options)
    assert done.stderr == b""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_it_says_that_this_machine_runs_the_shm_platform(run, directory: str) -> None:
    """Other tests may leave dead runs just now: of those it may speak too."""
    status, findings = look(run, directory)
    assert all(finding["is_fine"] for finding in findings if finding["subject"] != "left over")
    assert status == (0 if all(finding["is_fine"] for finding in findings) else 1)
    shown = run("doctor", "--run", directory, "--platform", "shm").stdout.decode()
    assert "ok        shm machine        64-bit Linux" in shown


def test_it_finds_and_removes_the_sockets_of_a_dead_run(run, directory: str) -> None:
    Path(directory).mkdir(mode=0o700)
    for name in ("control", "0.socket", "0.status"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(Path(directory, name)))
    status, findings = look(run, directory)
    assert status == 1
    said = f"{directory}: sockets of a dead run"
    assert {"says": said, "remedy": "refimpl doctor --fix"}.items() <= findings[-1].items()
    _, findings = look(run, directory, "--fix")
    assert {"removed": said} in findings
    assert said not in [finding.get("says") for finding in findings]
    assert not Path(directory).exists()


def test_after_all_processes_of_a_run_were_killed_at_once_nothing_of_it_is_left(run, directory: str) -> None:
    host = Host(directory)
    parent = host.process.pid
    pids = [parent, *map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    host.stop()
    look(run, directory, "--fix")
    _, findings = look(run, directory)
    assert not any(directory in str(finding) for finding in findings)
    assert not Path(directory).exists()
    named = [path for path in Path("/dev/shm").glob("pvcalls-*-anchor") if directory in path.read_text()]
    assert named == []


def test_a_living_run_is_not_touched(run, host: Host) -> None:
    _, findings = look(run, host.directory, "--fix")
    assert not any(host.directory in str(finding) for finding in findings)
    assert run("top", "--run", host.directory, "--once").returncode == 0


def test_a_status_socket_where_nobody_listens_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor_module, "XEN_STATUS", Path("status"))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("status")
    assert [f.says for f in doctor_module._look("xen", "") if f.subject == "left over"] == [
        "status: no backend listens"
    ]
    assert list(doctor_module._mend("xen", "")) == ["status"]
    assert not Path("status").exists()
