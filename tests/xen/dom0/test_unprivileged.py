"""Both ends as a user without privileges: `refimpl doctor` says which device nodes that takes; no more is needed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import services
from guests import Guest
from programs import ECHO, BackendProcess, as_user

pytestmark = pytest.mark.timeout(300)

USER = "nobody"
NODES = ("evtchn", "gntalloc", "gntdev", "xenbus")
#: The lines of `refimpl doctor` that say what gives the user a node.
ADVICE = re.compile(rf"sudo (chown {USER} (/dev/xen/\w+))")
GIVE_BACK = "chown root " + " ".join(f"/dev/xen/{node}" for node in NODES)


@pytest.fixture
def guest_as_it_was(guest: Guest) -> Iterator[Guest]:
    yield guest
    guest.run(GIVE_BACK)


@pytest.fixture
def nodes_as_they_were() -> Iterator[None]:
    yield
    subprocess.run(GIVE_BACK, shell=True, check=True)


def advised(printed: str) -> list[str]:
    """Return the commands of the doctor's advice, which has to be about every node."""
    found = ADVICE.findall(printed)
    assert sorted(path for _, path in found) == [f"/dev/xen/{node}" for node in NODES], printed
    return [command for command, _ in found]


def test_frontend(guest_as_it_was: Guest) -> None:
    guest = guest_as_it_was
    doctor = as_user(USER, "python3 -m refimpl doctor --platform xen 2>&1")
    connect = as_user(USER, f"echo hello | python3 -m refimpl connect {ECHO} --wait 1 2>&1")
    with services.running():
        backend = BackendProcess()
        try:
            printed, status = guest.attempt(doctor)
            assert status == 1
            commands = advised(printed.decode())
            printed, status = guest.attempt(connect)
            assert status
            assert re.fullmatch(r"refimpl: may not open /dev/xen/\w+: .*\n", printed.decode())
            for command in commands:
                guest.run(command)
            assert "all is fine" in guest.run(doctor)
            assert guest.run(connect) == "HELLO\n"
        finally:
            assert backend.stop() == 0


def test_backend(guest: Guest, nodes_as_they_were: None) -> None:
    doctor = as_user(USER, "python3 -m refimpl doctor --platform xen")
    refused = subprocess.run(doctor, shell=True, capture_output=True, text=True)
    assert refused.returncode == 1
    for command in advised(refused.stdout):
        subprocess.run(command, shell=True, check=True)
    with services.running():
        backend = BackendProcess(user=USER)
        try:
            assert guest.run(f"echo hello | python3 -m refimpl connect {ECHO} --wait 1") == "HELLO\n"
            assert f"Uid:\t{Path('/etc/passwd').read_text().partition(f'{USER}:x:')[2].split(':')[0]}\t" in (
                Path(f"/proc/{backend.process}/status").read_text()
            )
        finally:
            assert backend.stop() == 0
