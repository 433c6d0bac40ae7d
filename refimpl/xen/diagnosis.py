"""Whether this machine can run the Xen platform, and what in it would be in the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from refimpl.diagnosis import Finding
from refimpl.errors import RefimplError
from refimpl.xen.devices import check_device, is_under_xen
from refimpl.xen.domain import XenPlatform
from refimpl.xen.gntalloc import LIMIT_PARAMETER

#: Device node, the driver that makes it, who needs it.
_DEVICES = (
    ("/dev/xen/gntdev", "xen-gntdev", "maps grants: the backend"),
    ("/dev/xen/gntalloc", "xen-gntalloc", "grants pages: the frontend"),
    ("/dev/xen/evtchn", "xen-evtchn", "event channels: both ends"),
    ("/dev/xen/xenbus", "xenbus_dev_frontend", "xenstore: both ends"),
)
#: Where the kernel's own drivers of the protocol show, and the module that makes each.
_RIVALS = (
    ("backend", Path("/sys/bus/xen-backend/drivers/pvcalls"), "pvcalls-back"),
    ("frontend", Path("/sys/bus/xen/drivers/pvcalls"), "pvcalls-front"),
)
_PAGES_A_SOCKET = 17


def diagnose(*, is_wanted: bool) -> Iterator[Finding]:
    """Look at devices, rights, limits and the kernel's own drivers. No Xen is a finding only where it ``is_wanted``."""
    if not is_under_xen():
        yield Finding("xen", "machine", not is_wanted, "this machine does not run under Xen")
        return
    yield Finding("xen", "machine", True, "this is a Xen domain")
    devices = [_look_at_device(*device) for device in _DEVICES]
    yield from devices
    if all(device.is_fine for device in devices):
        yield _open_platform()
    if LIMIT_PARAMETER.exists():
        yield _look_at_limit()
    for end, driver, module in _RIVALS:
        if driver.exists():
            says = f"the kernel's own PV Calls {end} takes the devices: {driver}"
            yield Finding("xen", "driver", False, says, f"sudo modprobe -r {module}")


def _look_at_device(path: str, module: str, purpose: str) -> Finding:
    try:
        check_device(path, module)
    except RefimplError as error:
        return Finding("xen", "device", False, f"{error} ({purpose})")
    return Finding("xen", "device", True, f"{path} ({purpose})")


def _open_platform() -> Finding:
    try:
        with XenPlatform.open() as platform:
            return Finding("xen", "domain", True, f"this is domain {platform.domid}, and its xenstore answers")
    except RefimplError as error:
        return Finding("xen", "domain", False, str(error))


def _look_at_limit() -> Finding:
    try:
        pages = int(LIMIT_PARAMETER.read_text())
    except (OSError, ValueError) as error:
        return Finding("xen", "grants", False, f"{LIMIT_PARAMETER}: {error}")
    sockets = max(0, pages - 1) // _PAGES_A_SOCKET
    remedy = f"echo 65536 | sudo tee {LIMIT_PARAMETER}" if sockets < 1 else ""
    says = f"a frontend may grant {pages} pages: {sockets} sockets of ring order 4"
    return Finding("xen", "grants", sockets >= 1, says, remedy)
