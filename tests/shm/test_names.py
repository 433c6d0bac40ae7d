"""Names: whose they are, and what becomes of those of dead runs."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from refimpl.shm.names import LONGEST_NAME, Anchor, find_stale_runs, object_name, remove_stale_runs
from refimpl.shm.run_directory import RunDirectory


@pytest.fixture
def shm(tmp_path: Path) -> Path:
    """A directory that stands for /dev/shm."""
    (tmp_path / "shm").mkdir()
    return tmp_path / "shm"


def kill(anchor: Anchor) -> None:
    """Let go as a kill does: nothing is removed."""
    anchor.abandon()


def add_names(shm: Path, run: str) -> list[str]:
    names = [f"pvcalls-{run}-3a", f"sem.pvcalls-{run}-12s", f"pvcalls-{run}-lives"]
    for name in names:
        (shm / name).touch()
    return names


def test_names_have_room_for_the_biggest_incarnation() -> None:
    assert len(object_name("0123abcd", f"{2**32 - 1}s")) <= LONGEST_NAME
    with pytest.raises(ValueError, match="longer than"):
        object_name("0123abcd", "1" * 20)


def test_last_to_leave_removes_everything(shm, run_directory) -> None:
    first = Anchor.create(run_directory, shm)
    second = Anchor.share(first.run, shm)
    add_names(shm, first.run)
    first.leave()
    first.leave()
    assert len(list(shm.iterdir())) == 4
    second.leave()
    assert list(shm.iterdir()) == []


def test_of_all_that_leave_at_once_one_removes_everything(shm, run_directory) -> None:
    for _ in range(20):
        first = Anchor.create(run_directory, shm)
        anchors = [first, *(Anchor.share(first.run, shm) for _ in range(7))]
        add_names(shm, first.run)
        leaving = [threading.Thread(target=anchor.leave) for anchor in anchors]
        for thread in leaving:
            thread.start()
        for thread in leaving:
            thread.join()
        assert list(shm.iterdir()) == []


def test_ended_run_cannot_be_shared(shm, run_directory) -> None:
    anchor = Anchor.create(run_directory, shm)
    anchor.leave()
    assert Anchor.share(anchor.run, shm) is None


def test_run_being_removed_cannot_be_shared(shm, run_directory, monkeypatch) -> None:
    anchor = Anchor.create(run_directory, shm)
    path = next(shm.iterdir())
    descriptor = os.open(path, os.O_RDWR)
    kill(anchor)
    path.unlink()
    real_open = os.open
    monkeypatch.setattr(os, "open", lambda *arguments: os.dup(descriptor))  # opened before it was unlinked
    assert Anchor.share(anchor.run, shm) is None
    monkeypatch.setattr(os, "open", real_open)
    os.close(descriptor)


def test_living_run_is_left_alone(shm, run_directory) -> None:
    anchor = Anchor.create(run_directory, shm)
    add_names(shm, anchor.run)
    assert find_stale_runs(shm) == remove_stale_runs(shm) == []
    assert len(list(shm.iterdir())) == 4
    anchor.leave()


def test_dead_run_is_found_and_removed(shm, run_directory) -> None:
    anchor = Anchor.create(run_directory, shm)
    names = add_names(shm, anchor.run)
    kill(anchor)
    found = find_stale_runs(shm)
    assert [(stale.run, stale.directory) for stale in found] == [(anchor.run, str(run_directory))]
    assert found[0].names == tuple(sorted([*names, f"pvcalls-{anchor.run}-anchor"]))
    assert len(list(shm.iterdir())) == 4
    assert remove_stale_runs(shm) == found
    assert list(shm.iterdir()) == []
    assert remove_stale_runs(shm) == []


def test_names_without_an_anchor_are_a_dead_runs(shm) -> None:
    names = add_names(shm, "0123abcd")
    (stale,) = remove_stale_runs(shm)
    assert stale == ("0123abcd", tuple(sorted(names)), None)
    assert list(shm.iterdir()) == []


def test_anchor_without_content_is_removed_too(shm) -> None:
    (shm / "pvcalls-0123abcd-anchor").touch()
    (stale,) = remove_stale_runs(shm)
    assert stale.directory is None
    assert list(shm.iterdir()) == []


def test_other_names_are_not_touched(shm) -> None:
    others = ["pvcalls-0123abcd", "sem.other", "pvcalls-0123ABCD-x", "xpvcalls-0123abcd-1a", "pvcalls-0123abcd-1a.txt"]
    for name in others:
        (shm / name).touch()
    assert remove_stale_runs(shm) == []
    assert sorted(path.name for path in shm.iterdir()) == sorted(others)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_other_users_names_are_not_touched(shm) -> None:
    for name in add_names(shm, "0123abcd"):
        os.chown(shm / name, 12345, 12345)
    assert remove_stale_runs(shm) == []
    assert len(list(shm.iterdir())) == 3


def test_dead_runs_directory_goes_with_it(shm, run_directory) -> None:
    directory = RunDirectory(run_directory)
    anchor = Anchor.create(run_directory, shm)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_directory / "12.socket"))
    kill(anchor)
    directory.abandon()
    remove_stale_runs(shm)
    assert not run_directory.exists()


def test_directory_in_which_another_run_lives_stays(shm, run_directory) -> None:
    anchor = Anchor.create(run_directory, shm)
    kill(anchor)
    with RunDirectory(run_directory):
        assert len(remove_stale_runs(shm)) == 1
        assert run_directory.exists()


def test_forked_child_does_not_keep_a_run(shm, run_directory, forked_child) -> None:
    anchor = Anchor.create(run_directory, shm)
    with forked_child():
        kill(anchor)
        assert len(remove_stale_runs(shm)) == 1
