"""`refimpl conform` over real Xen: the reports on refimpl's two ends and on Linux's, as honest peers find them.

What no honest guest does is in test_conform_hostile.py. The reports go to build/conformance.
"""

from __future__ import annotations

import backends
import pytest
from conformance import FrontendProbing, failed, probe_backend
from guests import CommandFailed, started

pytestmark = pytest.mark.timeout(500)

#: What the reports say Linux does not keep; the reasons are in them.
LINUX_FAILS: dict[str, set[str]] = {"backend": {"IDXPAGE-13", "IDXPAGE-16", "IDXPAGE-18"}, "frontend": set()}


def test_refimpls_backend() -> None:
    with backends.running("refimpl"), started("prober", pvcalls=True) as guest:
        assert failed(probe_backend(guest, "refimpl", "--hostile")) == {}


def test_linux_backend() -> None:
    with backends.running("linux"), started("linux-prober", pvcalls=True) as guest:
        assert set(failed(probe_backend(guest, "linux", "--patience", "3"))) == LINUX_FAILS["backend"]


def test_refimpls_frontend() -> None:
    with FrontendProbing("refimpl") as probing, started("probed", pvcalls=True) as guest:
        guest.run("python3 -m refimpl conform driver > /tmp/driver.py")
        print(guest.run("python3 /tmp/driver.py --sockets refimpl --platform xen 2>&1", timeout=120))
        assert failed(probing.report()) == {}


def test_linux_frontend() -> None:
    with FrontendProbing("linux") as probing, started("linux-probed", pvcalls=True) as guest:
        guest.run("python3 -m refimpl conform driver > /tmp/driver.py")
        guest.run("cd /usr/lib/refimpl-xen; insmod pvcalls_front.ko; insmod pvcalls-sockets.ko")
        guest.await_output("xenstore-read device/pvcalls/0/state", "4")
        print(guest.run("python3 /tmp/driver.py --sockets family:19 2>&1", timeout=120))
        assert set(failed(probing.report())) == LINUX_FAILS["frontend"]


def test_linux_frontend_does_not_survive_an_unused_socket() -> None:
    """Why the driver closes no socket that did nothing: release wakes a queue that only bind has made."""
    with backends.running("refimpl"), started("oopsing", pvcalls=True) as guest:
        guest.run("python3 -m refimpl conform driver > /tmp/driver.py")
        guest.run("cd /usr/lib/refimpl-xen; insmod pvcalls_front.ko; insmod pvcalls-sockets.ko")
        guest.await_output("xenstore-read device/pvcalls/0/state", "4")
        with pytest.raises(CommandFailed):
            guest.run("python3 /tmp/driver.py --sockets family:19 unused")
        assert "pvcalls_front_release" in guest.console
