"""`refimpl conform`, as a user has it: against a run of `refimpl host`, and in place of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOME = ("--id", "SOCKET-5", "--id", "ERRNO-2", "--id", "SEC-B-3", "--id", "RING-11")


def test_backend_of_a_host_is_probed_and_reported(run, host, directory: str, tmp_path: Path) -> None:
    prefix = str(tmp_path / "report")
    options = ("--run", directory, "--platform", "shm", "--patience", "20", "--hostile", *SOME)
    done = run("conform", "backend", *options, "--write", prefix, "--subject", "this one")
    assert done.returncode == 0, done.stderr.decode()
    shown = done.stdout.decode()
    assert shown.startswith("The backend of this one, on shm, against PV Calls version 1\n")
    assert shown.endswith("3 pass, 0 fail, 0 differ under an erratum, 1 not observable\n")
    assert "pass            socket.the_response_carries_the_id: SOCKET's response" in done.stderr.decode()
    assert Path(f"{prefix}.txt").read_text() == shown
    again = run("conform", "backend", *options, "--json", "--quiet", "--subject", "this one")
    assert again.stderr == b""
    assert json.loads(again.stdout) == json.loads(Path(f"{prefix}.json").read_text())


def test_what_is_left_out_is_said(run, host, directory: str) -> None:
    options = ("--run", directory, "--platform", "shm", "--patience", "20", "--quiet")
    done = run("conform", "backend", *options, "--id", "SOCKET-5", "--skip", "SOCKET-5")
    assert (done.returncode, "left out (--skip)" in done.stdout.decode()) == (0, True)


def test_a_fault_is_status_1(run, host, directory: str) -> None:
    """A listening address that is not the backend's: nothing can be bound, so nothing that needs it is kept."""
    options = ("--run", directory, "--platform", "shm", "--quiet", "--address", "203.0.113.7")
    done = run("conform", "backend", *options, "--id", "LISTEN-1")
    assert done.returncode == 1
    assert "FAIL" in done.stdout.decode()


def test_frontend_is_observed_with_our_driver(run, directory: str) -> None:
    done = run("conform", "frontend", "--run", directory, "--platform", "shm", "--driver", "-", "--json")
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert (report["end"], report["counts"]["fail"], report["counts"]["differs"]) == ("frontend", 0, 0)
    assert "the driver: echo: equal" in done.stderr.decode()


def test_frontend_is_observed_with_a_program_of_ones_own(run, directory: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os\n"
        "from refimpl.frontend import Frontend\n"
        "from refimpl.shm import ShmPlatform\n"
        "with ShmPlatform.join(os.environ['REFIMPL_RUN']) as platform, Frontend.open(platform) as frontend:\n"
        "    frontend.socket().close()\n"
    )
    done = run("conform", "frontend", "--run", directory, "--platform", "shm", "--driver", str(program))
    assert done.returncode == 0, done.stderr.decode()
    shown = done.stdout.decode()
    assert "(no program made a call that sends CONNECT)" in shown


def test_driver_is_printed_and_explains_itself(run, tmp_path: Path) -> None:
    printed = run("conform", "driver")
    assert printed.returncode == 0
    driver = tmp_path / "driver.py"
    driver.write_bytes(printed.stdout)
    environment = {**os.environ, "PYTHONPATH": ""}
    shown = subprocess.run([sys.executable, driver, "--help"], capture_output=True, text=True, env=environment)
    assert shown.returncode == 0 and "family:19" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("backend", "--id", "SOCKET-99"), "there is no requirement or rule SOCKET-99"),
        (("backend", "--skip", "sec-b-1"), "there is no requirement or rule sec-b-1"),
        (("backend", "--patience", "0"), "--patience is a time in seconds above 0"),
        (("frontend", "--platform", "xen", "--driver", "-"), "--driver is for shm"),
        (("backend", "--project", "/"), "no spec/ with the requirements"),
    ],
)
def test_misuse_is_one_line_and_status_2(run, arguments: tuple[str, ...], said: str) -> None:
    done = run("conform", *arguments)
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (2, 1)
    assert said in lines[0]


def test_nothing_to_probe_is_said_with_what_to_start(run, directory: str) -> None:
    done = run("conform", "backend", "--run", directory, "--platform", "shm")
    assert done.returncode == 1
    assert "refimpl host" in done.stderr.decode()
