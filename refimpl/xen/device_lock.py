"""One process a guest holds a PV Calls device: a lock that ends with its process, however that ends.

It is a flock on a file that stays: removing one under somebody who just opened it would let two in. Who holds it is
read from ``/proc/locks``, so there is nothing to go stale.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from refimpl.errors import DeviceInUse, PermissionRefused

#: Writable for everybody on Debian, so that a process without privileges can hold a device it was given.
_DIRECTORIES = (Path("/run/lock"), Path("/run"))


class DeviceLock:
    """The hold on device ``name`` (``"pvcalls-0"``). Raises DeviceInUse, PermissionRefused."""

    def __init__(self, name: str, directory: Path | None = None) -> None:
        directory = directory or next((d for d in _DIRECTORIES if d.is_dir()), _DIRECTORIES[-1])
        self.path = directory / f"refimpl-{name}.lock"
        self._descriptor = self._open()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._descriptor)
            os.close(self._descriptor)
            raise DeviceInUse(name, holder) from None

    def _open(self) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            try:
                return os.open(self.path, flags)  # Another user's file in a sticky directory must not be created.
            except FileNotFoundError:
                return os.open(self.path, flags | os.O_CREAT, 0o644)
        except OSError as error:
            raise PermissionRefused(f"cannot lock {self.path}: {error.strerror}; sudo rm {self.path}") from error

    def release(self) -> None:
        """Let the device go. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _holder(descriptor: int) -> int | None:
    """Return the id of the process that holds the lock, None where it cannot be seen (another container's)."""
    status = os.fstat(descriptor)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if "->" not in fields and fields[1] == "FLOCK" and fields[5] == place:
                return int(fields[4]) if int(fields[4]) > 0 else None
    except (OSError, ValueError, IndexError):
        pass
    return None
