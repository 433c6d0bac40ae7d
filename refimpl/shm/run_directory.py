"""The run directory: where a run's control socket and its domains' xenstore sockets are.

The process that holds the directory's exclusive lock is the run's hypervisor; the kernel drops the lock at its death.
The directory belongs to the run: it is made if missing, private to its user, and removed with the run unless something
else lies in it.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from refimpl.errors import Misuse, PermissionRefused, PlatformUnavailable
from refimpl.shm.forks import abandon_in_child

#: A unix socket's path has 107 bytes on Linux, and its end NUL.
LONGEST_SOCKET_PATH = 107
_SOCKET_NAME = re.compile(r"control|[0-9]{1,5}\.(?:socket|status)")
_LONGEST_SOCKET_NAME = "32751.socket"


def control_path(directory: str | os.PathLike[str]) -> str:
    """Return the path of the socket by which processes join the run as domains."""
    return str(Path(directory) / "control")


def store_path(directory: str | os.PathLike[str], domid: int) -> str:
    """Return the path of the socket on which xenstore takes whoever connects for the domain."""
    return str(Path(directory) / f"{domid}.socket")


def status_path(directory: str | os.PathLike[str], domid: int) -> str:
    """Return the path of the socket on which a domain's backend says what it does."""
    return str(Path(directory) / f"{domid}.status")


def lock_linked(descriptor: int, path: str | os.PathLike[str], kind: int) -> bool:
    """Lock the open file, and say whether it still is the one at ``path``; if not, or if not free, close it."""
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return True
    os.close(descriptor)
    return False


class RunDirectory:
    """A run directory, taken over by this process until :meth:`close`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Take the directory over.

        Raises Misuse (a long path), PermissionRefused (others may use it), PlatformUnavailable (a run lives there).
        """
        self.path = Path(os.path.abspath(path))
        if len(os.fsencode(self.path / _LONGEST_SOCKET_NAME)) > LONGEST_SOCKET_PATH:
            raise Misuse(f"{self.path} is too long for the sockets in it: choose a shorter run directory")
        self._descriptor = self._take()
        abandon_in_child(self)
        _remove_sockets(self.path)

    def _take(self) -> int:
        # Someone who removes a dead run's directory holds the lock too, for a moment.
        deadline = time.monotonic() + 0.2
        while True:
            try:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = _open_directory(self.path)
            except FileNotFoundError:
                continue  # removed with an earlier run just now
            except OSError as error:
                raise PermissionRefused(f"the run directory {self.path}: {error.strerror}") from error
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                os.close(descriptor)
                raise PermissionRefused(f"a run directory must be its user's alone: chmod 700 {self.path}")
            if lock_linked(descriptor, self.path, fcntl.LOCK_EX):
                return descriptor
            if time.monotonic() > deadline:
                raise PlatformUnavailable(f"a run lives in {self.path} already: stop it, or choose another directory")
            time.sleep(0.005)

    def close(self) -> None:
        """Remove the sockets, the directory if nothing else is in it, and let go. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            _remove_with_sockets(self.path)
            os.close(descriptor)

    def abandon(self) -> None:
        """Forget the directory in a forked child, which has the lock only as a copy."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def remove_dead(path: str | os.PathLike[str]) -> None:
    """Remove the run directory that a dead run left, unless another run lives in it or something else lies in it."""
    with suppress(OSError):
        descriptor = _open_directory(path)
        if lock_linked(descriptor, path, fcntl.LOCK_EX):
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    _remove_with_sockets(Path(path))
            finally:
                os.close(descriptor)


def is_left_over(path: str | os.PathLike[str]) -> bool:
    """Say whether it is a run directory of this user's in which no run lives: our sockets in it, and nothing else."""
    with suppress(OSError):
        descriptor = _open_directory(path)
        if lock_linked(descriptor, path, fcntl.LOCK_EX):
            try:
                entries = list(Path(path).iterdir())
                is_ours = all(_SOCKET_NAME.fullmatch(entry.name) and entry.is_socket() for entry in entries)
                return bool(entries) and is_ours and os.fstat(descriptor).st_uid == os.geteuid()
            finally:
                os.close(descriptor)
    return False


def _open_directory(path: str | os.PathLike[str]) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _remove_sockets(directory: Path) -> None:
    for entry in list(directory.iterdir()):
        if _SOCKET_NAME.fullmatch(entry.name) and entry.is_socket():
            entry.unlink(missing_ok=True)


def _remove_with_sockets(directory: Path) -> None:
    with suppress(OSError):
        _remove_sockets(directory)
        directory.rmdir()
