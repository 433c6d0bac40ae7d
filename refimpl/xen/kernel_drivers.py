"""Linux's own PV Calls drivers: where one is loaded, its end of every device is the kernel's, and not ours to play."""

from __future__ import annotations

from pathlib import Path

from refimpl.errors import PlatformUnavailable

FRONTEND_DRIVER = Path("/sys/bus/xen/drivers/pvcalls")
BACKEND_DRIVER = Path("/sys/bus/xen-backend/drivers/pvcalls")


def check_frontend() -> None:
    """Raise PlatformUnavailable if the kernel's frontend would take this domain's device."""
    if FRONTEND_DRIVER.exists():
        module = _module_of(FRONTEND_DRIVER)
        where = module or "built into this kernel"
        remedy = f"module_blacklist={module}" if module else "initcall_blacklist=pvcalls_frontend_init"
        raise PlatformUnavailable(
            f"Linux's own frontend ({where}) has this domain's device and never lets go: boot with {remedy}"
        )


def check_backend() -> None:
    """Raise PlatformUnavailable if the kernel's backend serves this domain's guests."""
    if BACKEND_DRIVER.exists():
        module = _module_of(BACKEND_DRIVER)
        remedy = f"sudo rmmod {module}" if module else "boot with initcall_blacklist=pvcalls_back_init"
        raise PlatformUnavailable(f"Linux's own backend serves this domain's guests: {remedy}")


def _module_of(driver: Path) -> str | None:
    link = driver / "module"
    return link.resolve().name if link.exists() else None
