"""README's section for Debian's Xen hosts, line by line, but for what installs refimpl."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import guests
import pytest
from guests import Guest

pytestmark = pytest.mark.timeout(300)

SECTION = "## On a Debian Xen host in five minutes"
#: Of these lines nothing is tried here: there is no Debian to install from.
INSTALLS = re.compile(r"\b(apt|git clone|venv|pip|ln -s)\b")


def steps() -> list[tuple[str, str, list[str]]]:
    """Return who types what, and what README says that it prints."""
    text = Path("README.md").read_text().partition(SECTION)[2].partition("\n## ")[0]
    found: list[tuple[str, str, list[str]]] = []
    for line in re.findall(r"^    (.*)$", text, re.MULTILINE):
        typed = re.fullmatch(r"(dom0|guest)# (.*)", line)
        if typed:
            found.append((typed[1], typed[2].partition("   #")[0].strip(), []))
        elif found:
            found[-1][2].append(line)
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where the new user is: with a guest's configuration, still without PV Calls, and a page to serve."""
    configuration = guests.CONFIGURATION.format(name="guest", kind="pv", memory=guests.MEMORY, pvcalls="")
    (tmp_path / "guest.cfg").write_text(configuration.replace("pvcalls = []\n", ""))
    yield tmp_path
    subprocess.run(["xl", "destroy", "guest"], capture_output=True)


def test_line_by_line(directory: Path) -> None:
    background: list[subprocess.Popen[bytes]] = []
    guest: Guest | None = None
    try:
        for who, command, expected in steps():
            if INSTALLS.search(command):
                continue
            print(f"{who}# {command}")
            if command.endswith("&"):
                background.append(start(who, command.removesuffix("&"), directory, guest))
                continue
            deadline = time.monotonic() + 60
            printed = type_in(who, command, directory, guest)
            # A person too would try again, until what was started before is there.
            while not shows(printed, expected) and time.monotonic() < deadline:
                time.sleep(1)
                printed = type_in(who, command, directory, guest)
            print(printed)
            assert shows(printed, expected), (command, guest and guest.attempt("cat /tmp/background.log"))
            if command.startswith("xl create"):
                guest = guests.running("guest")
    finally:
        for process in background:
            process.kill()
            process.wait()


def shows(printed: str, expected: list[str]) -> bool:
    """Say whether all that README shows was printed."""
    return all(as_words(line) in as_words(printed) for line in expected)


def start(who: str, command: str, directory: Path, guest: Guest | None) -> subprocess.Popen[bytes]:
    """Start what README has in the background."""
    if who == "guest":
        assert guest is not None
        process = subprocess.Popen(["sleep", "600"])
        guest.start(command)
    else:
        process = subprocess.Popen(f"exec {command}", shell=True, cwd=directory, stdin=subprocess.DEVNULL)
    return process


def type_in(who: str, command: str, directory: Path, guest: Guest | None) -> str:
    """Run a command where README has it; return what it prints."""
    if who == "guest":
        assert guest is not None
        return guest.attempt(f"exec 2>&1; {command}")[0].decode()
    terminal, keyboard = os.pipe()  # On which nobody types, and which does not end.
    with open(terminal) as standard_input, open(keyboard, "w"):
        run = subprocess.run(
            command,
            shell=True,
            cwd=directory,
            stdin=standard_input,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
    return run.stdout


def as_words(text: str) -> str:
    """Return the text with blanks that mean nothing made one, and numbers of processes made the same."""
    return re.sub(r"process \d+", "process N", " ".join(text.split()))
