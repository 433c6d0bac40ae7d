"""A guest that is saved and restored (`xl save`, `xl restore`): E-SUSPEND."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import backends
import guests
import pytest
import services
from guests import Guest, started
from programs import Conversation, Program

pytestmark = pytest.mark.timeout(300)

#: Where dom0 has room: on the computer that all this runs on.
SAVED = Path("/exchange/saved")


@pytest.fixture
def sleeper() -> Iterator[Guest]:
    with services.running(), backends.running("refimpl"), started("sleeper", pvcalls=True) as guest:
        yield guest


def restore_elsewhere(guest: Guest) -> Guest:
    """Save a guest and restore it; return it as the domain it is then, which still has its old address."""
    try:
        subprocess.run(["xl", "save", guest.name, SAVED], check=True, capture_output=True)
        subprocess.run(["xl", "restore", SAVED], check=True, capture_output=True)
    finally:
        SAVED.unlink(missing_ok=True)
    domid = int(subprocess.check_output(["xl", "domid", guest.name]))
    subprocess.run(["ip", "route", "add", guest.address, "dev", f"vif{domid}.0"], check=True)
    return guests.running(guest.name, address=guest.address)


@pytest.mark.erratum("E-SUSPEND")
def test_sockets_end_and_the_device_is_opened_again(sleeper: Guest) -> None:
    with closing(Conversation(sleeper, "python3 tests/xen/guest/restored.py")) as program:
        assert program.ask("go") == "HELLO"
        assert program.ask("domid") == str(sleeper.domid)
        restored = restore_elsewhere(sleeper)
        assert restored.domid != sleeper.domid
        services.await_connections(0)
        answer = program.ask("talk")
        assert answer.startswith("DeviceGone: "), answer
        assert "made anew" in answer
        assert program.ask("go") == "HELLO"
        assert program.ask("domid") == str(restored.domid)
        assert program.ask("talk") == "HELLO"
    # Linux (6.1) does not let a process end in peace that held event channels over a restore, but goes on itself.
    services.await_connections(0)
    with Program(restored) as next_one:
        next_one.say(b"next")
