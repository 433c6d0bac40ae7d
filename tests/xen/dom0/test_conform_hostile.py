"""What Linux's backend makes of a hostile guest, in a boot of its own: dom0's driver is not the same afterwards."""

from __future__ import annotations

import subprocess

import backends
import pytest
from conformance import failed, probe_backend
from guests import started

pytestmark = pytest.mark.timeout(700)


def test_linux_backend_and_a_hostile_guest() -> None:
    backends.load("pvcalls-back")
    with started("hostile", pvcalls=True) as guest:
        report = probe_backend(guest, "linux", "--hostile", "--patience", "3", kind="backend-hostile", timeout=500)
    assert {"SEC-B-1", "SEC-B-4", "SEC-B-7", "SEC-B-17"} <= set(failed(report))
    # A ring order above 4: the error path takes off a list what was never on it (E-MAPFAIL).
    assert "list_del corruption" in subprocess.check_output(["dmesg"], text=True)
