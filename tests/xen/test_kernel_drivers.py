"""Linux's own drivers are not fought with."""

from __future__ import annotations

from pathlib import Path

import pytest

from refimpl.errors import PlatformUnavailable
from refimpl.xen import kernel_drivers


@pytest.fixture
def drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for both drivers, where neither is."""
    monkeypatch.setattr(kernel_drivers, "FRONTEND_DRIVER", tmp_path / "xen/drivers/pvcalls")
    monkeypatch.setattr(kernel_drivers, "BACKEND_DRIVER", tmp_path / "xen-backend/drivers/pvcalls")
    return tmp_path


def test_none_is_loaded(drivers: Path) -> None:
    kernel_drivers.check_frontend()
    kernel_drivers.check_backend()


def test_a_loaded_backend_is_named_with_the_command_that_unloads_it(drivers: Path) -> None:
    (drivers / "module/pvcalls_back").mkdir(parents=True)
    (drivers / "xen-backend/drivers/pvcalls").mkdir(parents=True)
    (drivers / "xen-backend/drivers/pvcalls/module").symlink_to(drivers / "module/pvcalls_back")
    with pytest.raises(PlatformUnavailable, match="sudo rmmod pvcalls_back"):
        kernel_drivers.check_backend()
    kernel_drivers.check_frontend()


def test_a_driver_in_the_kernel_itself_needs_a_boot_without_it(drivers: Path) -> None:
    for bus in ("xen", "xen-backend"):
        (drivers / bus / "drivers/pvcalls").mkdir(parents=True)
    with pytest.raises(PlatformUnavailable, match="initcall_blacklist=pvcalls_back_init"):
        kernel_drivers.check_backend()
    with pytest.raises(PlatformUnavailable, match="built into this kernel"):
        kernel_drivers.check_frontend()
