"""The main job, as the README has it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest


def test_the_demo_moves_every_byte_and_prints_every_section(run) -> None:
    done = run("demo", "--size", "3000000")
    shown = done.stdout.decode()
    assert done.returncode == 0, shown + done.stderr.decode()
    for section in ("State Machine", "Socket", "Connect", "Bind", "Listen", "Accept", "Release", "Workflow"):
        assert f" {section} " in shown
    assert "SHA-256 DIFFERS" not in shown
    assert "7 of 7 transfers right and both ends counted the same" in shown
    assert b"Traceback" not in done.stderr


def test_the_demo_as_json_is_one_object(run) -> None:
    done = run("demo", "--json", "--size", "1000")
    result = json.loads(done.stdout)
    assert result["right"] is True
    assert {transfer["who"] for transfer in result["transfers"]} == {"guest 1", "outside"}


def test_the_demo_leaves_nothing_behind(run, directory: str) -> None:
    """``directory`` is short: a unix socket's path must fit."""
    Path(directory).mkdir()
    done = run("demo", "--quiet", "--size", "1000", env={**os.environ, "TMPDIR": directory})
    assert done.returncode == 0
    assert list(Path(directory).iterdir()) == []


def test_a_long_temporary_directory_is_no_obstacle(run, tmp_path: Path) -> None:
    long = tmp_path / ("d" * 100)
    long.mkdir()
    assert run("demo", "--quiet", "--size", "1000", env={**os.environ, "TMPDIR": str(long)}).returncode == 0


@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_a_size_that_is_none_is_misuse(run, size: str) -> None:
    assert run("demo", "--size", size).returncode == 2
