"""The run directory: one run at a time, nobody else's, nothing left."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from refimpl.errors import Misuse, PermissionRefused, PlatformUnavailable
from refimpl.shm.run_directory import RunDirectory, control_path, remove_dead, store_path


def bind(path: str | os.PathLike[str]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def test_directory_is_made_private_and_removed(run_directory) -> None:
    with RunDirectory(run_directory / "deeper") as directory:
        assert directory.path.stat().st_mode & 0o777 == 0o700
        bind(control_path(directory.path))
        bind(store_path(directory.path, 0))
    directory.close()
    assert not (run_directory / "deeper").exists()


def test_directory_with_something_else_in_it_stays(run_directory) -> None:
    with RunDirectory(run_directory):
        bind(run_directory / "other.socket")
        (run_directory / "control").touch()
    assert sorted(os.listdir(run_directory)) == ["control", "other.socket"]


def test_second_run_is_refused(run_directory) -> None:
    with RunDirectory(run_directory):
        with pytest.raises(PlatformUnavailable, match="a run lives in"):
            RunDirectory(run_directory)
        assert run_directory.exists()
    RunDirectory(run_directory).close()


def test_what_a_dead_run_left_is_taken_over(run_directory) -> None:
    dead = RunDirectory(run_directory)
    bind(control_path(run_directory))
    bind(store_path(run_directory, 7))
    dead.abandon()
    with RunDirectory(run_directory):
        assert os.listdir(run_directory) == []


def test_others_must_not_get_in(run_directory) -> None:
    run_directory.mkdir(mode=0o755)
    with pytest.raises(PermissionRefused, match="chmod 700"):
        RunDirectory(run_directory)
    run_directory.chmod(0o700)
    RunDirectory(run_directory).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_another_users_directory_is_refused(run_directory) -> None:
    run_directory.mkdir(mode=0o700)
    os.chown(run_directory, 12345, 12345)
    with pytest.raises(PermissionRefused, match="its user's alone"):
        RunDirectory(run_directory)


def test_no_directory_is_refused(run_directory) -> None:
    run_directory.touch()
    with pytest.raises(PermissionRefused, match="the run directory"):
        RunDirectory(run_directory)
    with pytest.raises(PermissionRefused, match="Not a directory"):
        RunDirectory(run_directory / "below")


def test_link_is_not_followed(run_directory, tmp_path) -> None:
    run_directory.symlink_to(tmp_path)
    with pytest.raises(PermissionRefused):
        RunDirectory(run_directory)


def test_path_too_long_for_a_socket_is_said_first(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="too long"):
        RunDirectory(tmp_path / ("x" * 100))
    assert list(tmp_path.iterdir()) == []


def test_removing_a_dead_one_spares_the_living(run_directory) -> None:
    with RunDirectory(run_directory):
        bind(control_path(run_directory))
        remove_dead(run_directory)
        assert (run_directory / "control").exists()
    remove_dead(run_directory)
    remove_dead(run_directory)
    assert not run_directory.exists()


def test_forked_child_does_not_keep_it(run_directory, forked_child) -> None:
    directory = RunDirectory(run_directory)
    with forked_child():
        directory.abandon()  # what a kill of the parent does
        RunDirectory(run_directory).close()
