"""Where there is no Xen: what is missing, and what mends it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refimpl.errors import Misuse, PermissionRefused, PlatformUnavailable
from refimpl.xen import XenPlatform, devices


@pytest.mark.skipif(os.path.exists("/dev/xen"), reason="this machine has Xen's devices")
def test_a_machine_without_xen_says_so() -> None:
    with pytest.raises(PlatformUnavailable, match="does not run under Xen"):
        XenPlatform.open()


def test_a_missing_driver_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "type").write_text("xen\n")
    monkeypatch.setattr(devices, "_HYPERVISOR_TYPE", tmp_path / "type")
    with pytest.raises(PlatformUnavailable, match="sudo modprobe xen-gntalloc"):
        devices.open_device(str(tmp_path / "gntalloc"), "xen-gntalloc")


def test_a_device_not_ours_names_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(devices.os, "open", refuse)
    with pytest.raises(PermissionRefused, match=r"sudo chown \S+ /dev/xen/evtchn"):
        devices.open_device("/dev/xen/evtchn", "xen-evtchn")


@pytest.mark.parametrize("domid", [-1, 0x7FF0, 65536, 65541])
def test_a_number_no_domain_has_is_misuse(domid: int) -> None:
    with pytest.raises(Misuse):
        devices.check_domid(domid)
