"""Opening Xen's device nodes, with errors that say what to do about them."""

from __future__ import annotations

import errno
import getpass
import os
from pathlib import Path

from refimpl.errors import ForkedDomain, Misuse, PermissionRefused, PlatformUnavailable

#: Domids from here on are Xen's own names (itself, "me", idle), not domains.
FIRST_RESERVED_DOMID = 0x7FF0
_HYPERVISOR_TYPE = Path("/sys/hypervisor/type")


def open_device(path: str, module: str) -> int:
    """Open a device node for reading and writing, non-blocking; ``module`` is the driver that makes it.

    Raises PlatformUnavailable, PermissionRefused.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        raise PermissionRefused(
            f"may not open {path}: run as root, or give it to yourself until the next boot: "
            f"sudo chown {_user_name()} {path}"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise PlatformUnavailable(_why_absent(path, module)) from error
        raise PlatformUnavailable(f"cannot open {path}: {error.strerror}") from error


def check_device(path: str, module: str) -> None:
    """Raise what :func:`open_device` would."""
    os.close(open_device(path, module))


def check_process(owner: int) -> None:
    """Raise ForkedDomain in any process but ``owner``. Before any lock is taken: a fork may have left it held."""
    if os.getpid() != owner:
        raise ForkedDomain("this domain belongs to the process that forked")


def check_domid(domid: int) -> None:
    """Raise Misuse for a number that no domain can have: the kernel would cut it to 16 bits and take another's."""
    if not 0 <= domid < FIRST_RESERVED_DOMID:
        raise Misuse(f"{domid} is no domid (0..{FIRST_RESERVED_DOMID - 1})")


def is_under_xen() -> bool:
    """Say whether this machine is a Xen domain."""
    try:
        return _HYPERVISOR_TYPE.read_text().strip() == "xen"
    except OSError:
        return False


def _why_absent(path: str, module: str) -> str:
    if not is_under_xen():
        return f"this machine does not run under Xen: there is no {path}, and {_HYPERVISOR_TYPE} does not say xen"
    return f"there is no {path}: load its driver with: sudo modprobe {module}"


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
