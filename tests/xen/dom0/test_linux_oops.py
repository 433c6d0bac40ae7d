"""What Linux's backend does not survive, in a boot of its own; refimpl's goes on as if nothing were."""

from __future__ import annotations

import subprocess

import backends
import pytest
from guests import CommandFailed, started

pytestmark = pytest.mark.timeout(400)


def kernel_log() -> str:
    return subprocess.check_output(["dmesg"], text=True)


@pytest.mark.erratum("E-ACC-REL")
def test_refimpl_answers_both() -> None:
    with backends.running("refimpl"), started("calm", pvcalls=True) as guest:
        guest.pytest("guest/test_pending_accept.py", name="pending-accept-on-refimpl", FRONT="refimpl", BACK="refimpl")
    assert "BUG:" not in kernel_log()


def test_linux_oopses() -> None:
    """RELEASE frees the socket that the accept's work item then uses."""
    backends.load("pvcalls-back")
    with started("harmless", pvcalls=True) as guest, pytest.raises(CommandFailed):
        guest.pytest("guest/test_pending_accept.py", FRONT="refimpl", BACK="linux")
    log = kernel_log()
    assert "BUG: kernel NULL pointer dereference" in log
    assert "inet_accept" in log
