"""The root command: help, misuse, errors of every kind as one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from refimpl.cli import _COMMANDS

ALL = sorted(_COMMANDS)


def test_help_shows_every_command_and_what_it_is_for(run) -> None:
    done = run("--help")
    assert done.returncode == 0
    shown = done.stdout.decode()
    assert all(f"\n  {name} " in shown for name in ALL)


@pytest.mark.parametrize("name", ALL)
def test_each_command_has_a_help_worth_reading(run, name: str) -> None:
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode()
    assert len(shown.splitlines()) > 6
    assert "--help" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("conect",), "No such command 'conect'"),
        (("connect", "127.0.0.1"), "Missing argument 'PORT'"),
        (("connect", "127.0.0.1", "http"), "'http' is not a TCP port number, 0 to 65535"),
        (("connect", "127.0.0.1", "65536"), "'65536' is not a TCP port number, 0 to 65535"),
        (("listen", "-1"), "No such option '-1'"),
        (("connect", "127.0.0.1", "80", "--wait", "-1"), "--wait is a time in seconds above 0, not -1.0"),
        (("connect", "127.0.0.1", "80", "--wait", "nan"), "--wait is a time in seconds above 0, not nan"),
        (("backend", "--allow", "nonsense"), "--allow 'nonsense'"),
        (("backend", "--max-page-order", "10"), "1<=x<=9"),
        (("toolstack", "attach", "dom1"), "'dom1' is not a valid integer"),
        (("toolstack", "attach", "99999"), "0<=x<=32751"),
        (("store", "--run", "/" + "d" * 120), "too long for the sockets in it"),
    ],
)
def test_a_users_mistake_is_one_clear_line_and_status_2(run, arguments, said: str) -> None:
    done = run(*arguments)
    shown = done.stderr.decode()
    assert done.returncode == 2, shown
    assert said in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    "arguments",
    [("connect", "127.0.0.1", "80"), ("listen", "8080"), ("backend",), ("toolstack", "list"), ("toolstack", "serve")],
)
def test_nothing_running_is_said_with_what_to_start(run, directory: str, arguments) -> None:
    done = run(*arguments, "--run", directory, "--platform", "shm")
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert "refimpl host" in lines[0]


def test_help_and_import_load_no_more_than_they_need() -> None:
    heavy = ("numpy", "rich", "posix_ipc", "pyxs")
    code = f"import sys, refimpl, refimpl.cli; print([m for m in {heavy} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
