"""What the doctor finds on this machine, and what it removes."""

from __future__ import annotations

import functools
import socket
from pathlib import Path

import pytest

from refimpl.errors import LimitReached
from refimpl.shm import diagnosis
from refimpl.shm.names import Anchor, find_stale_runs, remove_stale_runs
from refimpl.shm.run_directory import RunDirectory


@pytest.fixture
def shm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands for /dev/shm where runs are looked for."""
    shm = tmp_path / "shm"
    shm.mkdir()
    for function in (find_stale_runs, remove_stale_runs):
        monkeypatch.setattr(diagnosis, function.__name__, functools.partial(function, shm))
    return shm


def left_over(run_directory) -> list[str]:
    return [finding.says for finding in diagnosis.diagnose(str(run_directory)) if finding.subject == "left over"]


def leave_sockets(run_directory: Path, *names: str) -> None:
    run_directory.mkdir(mode=0o700)
    for name in names:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(run_directory / name))


def test_a_machine_that_runs_these_tests_is_fine(shm: Path, run_directory) -> None:
    findings = list(diagnosis.diagnose(str(run_directory)))
    assert [finding for finding in findings if not finding.is_fine] == []
    subjects = {finding.subject for finding in findings}
    assert subjects == {"machine", "space", "shared memory", "semaphores", "fences", "descriptors"}


def test_too_little_space_and_what_does_not_work_are_named(shm: Path, run_directory, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise LimitReached("shared memory", None, "/dev/shm is full")

    monkeypatch.setattr(diagnosis, "LEAST_FREE_BYTES", 1 << 62)
    monkeypatch.setattr(diagnosis, "reserve", refuse)
    bad = {f.subject: f for f in diagnosis.diagnose(str(run_directory)) if not f.is_fine}
    assert set(bad) == {"space", "shared memory"}
    assert bad["space"].remedy.startswith("sudo mount -o remount")
    assert "is full" in bad["shared memory"].says


def test_a_dead_run_is_found_and_mended_and_a_living_one_is_not_touched(shm: Path, run_directory, tmp_path) -> None:
    living = Anchor.create(tmp_path / "living", shm)
    dead = Anchor.create(run_directory, shm)
    names = [f"pvcalls-{dead.run}-3a", f"sem.pvcalls-{dead.run}-12s", f"pvcalls-{living.run}-3a", "somebody-elses"]
    for name in names:
        (shm / name).touch()
    dead.abandon()
    (said,) = left_over(run_directory)
    assert said.startswith(f"dead run {dead.run}: 3 names")
    assert list(diagnosis.mend(str(run_directory))) == [said]
    assert left_over(run_directory) == []
    kept = {f"pvcalls-{living.run}-anchor", f"pvcalls-{living.run}-3a", "somebody-elses"}
    assert {path.name for path in shm.iterdir()} == kept
    living.leave()


def test_sockets_of_a_dead_run_are_mended(shm: Path, run_directory) -> None:
    leave_sockets(Path(run_directory), "control", "0.socket", "0.status")
    assert left_over(run_directory) == [f"{run_directory}: sockets of a dead run"]
    assert list(diagnosis.mend(str(run_directory))) == [f"{run_directory}: sockets of a dead run"]
    assert not Path(run_directory).exists()


def test_a_directory_with_anything_else_in_it_or_a_run_is_not_ours_to_remove(shm: Path, run_directory) -> None:
    leave_sockets(Path(run_directory), "control")
    (Path(run_directory) / "notes").touch()
    assert left_over(run_directory) == list(diagnosis.mend(str(run_directory))) == []
    (Path(run_directory) / "notes").unlink()
    with RunDirectory(run_directory) as living, socket.socket(socket.AF_UNIX) as control:
        control.bind(str(living.path / "control"))
        assert left_over(run_directory) == list(diagnosis.mend(str(run_directory))) == []
        assert (living.path / "control").exists()
