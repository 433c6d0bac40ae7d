"""`refimpl top` beside a running host."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from refimpl.cli.top import _amount

from .conftest import PATIENCE, Host, command


def test_it_shows_what_a_guest_does_once_as_tables_and_as_json(run, host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        connecting = command("connect", "127.0.0.1", str(port), "--run", host.directory)
        with subprocess.Popen(connecting, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
            connection, _ = listener.accept()
            connection.sendall(b"x" * 1000)
            assert guest.stdout is not None
            assert guest.stdout.read1() != b""
            shown = run("top", "--run", host.directory, "--once").stdout.decode()
            said = json.loads(run("top", "--run", host.directory, "--once", "--json").stdout)
            connection.close()
            guest.communicate(timeout=PATIENCE)
    assert [guest["state"] for guest in said["guests"]] == ["CONNECTED"]
    assert [(s["bytes_in"], s["remote"]) for s in said["sockets"]] == [(1000, f"127.0.0.1:{port}")]
    assert f"127.0.0.1:{port}" in shown
    assert "1.0k" in shown


def test_it_goes_on_looking_until_ctrl_c(host: Host) -> None:
    looking = command("top", "--run", host.directory, "--json", "--interval", "0.1")
    with subprocess.Popen(looking, stdout=subprocess.PIPE, text=True) as top:
        assert top.stdout is not None
        looks = [json.loads(top.stdout.readline()) for _ in range(3)]
        top.send_signal(signal.SIGINT)
        top.communicate(timeout=PATIENCE)
    assert top.returncode == 0
    assert looks[0]["backend"]["at"] < looks[2]["backend"]["at"]


def test_where_no_backend_answers_it_says_what_to_start(run, directory: str) -> None:
    done = run("top", "--run", directory, "--once", "--platform", "shm")
    assert done.returncode == 1
    assert b"start `refimpl host`" in done.stderr


def test_a_backend_killed_outright_leaves_a_status_that_the_next_takes_over(run, directory: str) -> None:
    host = Host(directory)
    pid = json.loads(run("top", "--run", directory, "--once", "--json").stdout)["backend"]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert host.stop() in (0, 1)
    assert not Path(directory).exists()  # The store's process took the name away with the run.
    second = Host(directory)
    assert run("top", "--run", directory, "--once").returncode == 0
    second.stop()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (999, "999"), (999.6, "1.0k"), (1500, "1.5k"), (20e6, "20M"), (999_600, "1.0M"), (None, "")],
)
def test_amounts_are_short(value: float | None, shown: str) -> None:
    assert _amount(value) == shown
