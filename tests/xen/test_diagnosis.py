"""What the doctor says of Xen's devices and the kernel's own drivers; real Xen is tests/xen/dom0's."""

from __future__ import annotations

from pathlib import Path

import pytest

from refimpl.xen import devices, diagnosis


@pytest.fixture
def under_xen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "type").write_text("xen\n")
    monkeypatch.setattr(devices, "_HYPERVISOR_TYPE", tmp_path / "type")
    monkeypatch.setattr(diagnosis, "LIMIT_PARAMETER", tmp_path / "limit")
    monkeypatch.setattr(diagnosis, "_DEVICES", ((str(tmp_path / "gntdev"), "xen-gntdev", "maps grants: the backend"),))
    monkeypatch.setattr(diagnosis, "_RIVALS", (("backend", tmp_path / "pvcalls", "pvcalls-back"),))
    return tmp_path


def findings(*, is_wanted: bool = True) -> dict[str, diagnosis.Finding]:
    return {finding.subject: finding for finding in diagnosis.diagnose(is_wanted=is_wanted)}


@pytest.mark.parametrize("is_wanted", [True, False])
def test_no_xen_is_a_finding_only_where_xen_is_wanted(tmp_path: Path, monkeypatch, is_wanted: bool) -> None:
    monkeypatch.setattr(devices, "_HYPERVISOR_TYPE", tmp_path / "absent")
    (finding,) = diagnosis.diagnose(is_wanted=is_wanted)
    assert (finding.subject, finding.is_fine) == ("machine", not is_wanted)


def test_a_missing_driver_is_named_with_what_loads_it(under_xen: Path) -> None:
    assert "sudo modprobe xen-gntdev" in findings()["device"].says
    assert not findings()["device"].is_fine


@pytest.mark.parametrize(("pages", "sockets", "is_fine"), [("1024\n", 60, True), ("16\n", 0, False)])
def test_the_kernels_limit_of_grants_is_said_in_sockets(under_xen: Path, pages: str, sockets: int, is_fine) -> None:
    (under_xen / "limit").write_text(pages)
    grants = findings()["grants"]
    assert (grants.is_fine, bool(grants.remedy)) == (is_fine, not is_fine)
    assert f"{sockets} sockets of ring order 4" in grants.says


def test_the_kernels_own_backend_is_a_rival(under_xen: Path) -> None:
    assert "driver" not in findings()
    (under_xen / "pvcalls").mkdir()
    assert findings()["driver"].remedy == "sudo modprobe -r pvcalls-back"
