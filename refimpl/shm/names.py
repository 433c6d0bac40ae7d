"""Names in /dev/shm: which run they belong to, whether that run lives, and how those of dead runs are removed.

Every name a run makes is ``pvcalls-<run>-<rest>`` (a semaphore's file has ``sem.`` before it), where ``<run>`` is eight
hexadecimal digits. The first name of a run is its *anchor*, on which each of its processes holds a shared lock that
the kernel drops at the process's death; it is made before any other name and removed after them all. So a run whose
anchor can be locked exclusively is dead, whatever pids say, and so is one with names and no anchor.

What no run can find again is the nameless-to-us temporary (``sem.`` and six characters) of glibc's ``sem_open``, left
only where a hypervisor is killed within that call.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from refimpl.shm.forks import abandon_in_child
from refimpl.shm.run_directory import lock_linked, remove_dead

#: Where Linux keeps the names of POSIX shared memory and semaphores.
SHM_DIRECTORY = Path("/dev/shm")
#: With the slash; some systems allow no more than 31.
LONGEST_NAME = 30

_NAME = re.compile(r"(?:sem\.)?pvcalls-([0-9a-f]{8})-[0-9a-z]+")
_LONGEST_PATH = 4096


def object_name(run: str, rest: str) -> str:
    """Return the POSIX name, with its slash, of one of the run's shared memory objects or semaphores."""
    name = f"/pvcalls-{run}-{rest}"
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{name} is longer than {LONGEST_NAME} characters")
    return name


class Anchor:
    """One process's hold on a run: while any process has one, the run lives.

    The anchor file's content is the path of the run directory.
    """

    def __init__(self, run: str, descriptor: int, shm: Path) -> None:
        self.run = run
        self._descriptor = descriptor
        self._shm = shm
        abandon_in_child(self)

    @classmethod
    def create(cls, run_directory: str | os.PathLike[str], shm: Path = SHM_DIRECTORY) -> Self:
        """Begin a new run."""
        while True:
            run = secrets.token_hex(4)
            path = _anchor_path(shm, run)
            with suppress(FileExistsError):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                if lock_linked(descriptor, path, fcntl.LOCK_SH):
                    os.write(descriptor, os.fsencode(os.path.abspath(run_directory)))
                    return cls(run, descriptor, shm)

    @classmethod
    def share(cls, run: str, shm: Path = SHM_DIRECTORY) -> Self | None:
        """Take part in a run, or return None where it is over."""
        path = _anchor_path(shm, run)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        return cls(run, descriptor, shm) if lock_linked(descriptor, path, fcntl.LOCK_SH) else None

    def leave(self) -> None:
        """Give up the hold; the last to leave removes what is left of the run. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            with suppress(BlockingIOError):
                # Of several that leave at once, each gives up its shared lock before it asks for this one: one gets it.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_run(self._shm, self.run, descriptor)
        finally:
            os.close(descriptor)

    def abandon(self) -> None:
        """Forget the hold in a forked child: the lock is the parent's, and closing this copy leaves it so."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class StaleRun(NamedTuple):
    """What is left of a dead run; ``directory`` is its run directory, None where its anchor is gone."""

    run: str
    names: tuple[str, ...]
    directory: str | None


def find_stale_runs(shm: Path = SHM_DIRECTORY) -> list[StaleRun]:
    """Return the runs of this user that no process holds any more; nothing is removed."""
    return list(_stale_runs(shm, remove=False))


def remove_stale_runs(shm: Path = SHM_DIRECTORY) -> list[StaleRun]:
    """Remove what dead runs of this user left, in /dev/shm and as run directories; return what that was."""
    return list(_stale_runs(shm, remove=True))


def _anchor_path(shm: Path, run: str) -> Path:
    return shm / f"pvcalls-{run}-anchor"


def _own_names(shm: Path) -> dict[str, list[str]]:
    """Return this user's names by run."""
    runs: dict[str, list[str]] = {}
    with os.scandir(shm) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            with suppress(FileNotFoundError):
                if match and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                    runs.setdefault(match[1], []).append(entry.name)
    return runs


def _stale_runs(shm: Path, *, remove: bool) -> Iterator[StaleRun]:
    for run in sorted(_own_names(shm)):
        path = _anchor_path(shm, run)
        descriptor = None
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if descriptor is not None and not lock_linked(descriptor, path, fcntl.LOCK_EX):
            continue
        try:
            # Read again, now that nobody else removes them.
            names = tuple(sorted(_own_names(shm).get(run, ())))
            directory = _directory_of(descriptor)
            if names:
                if remove:
                    _remove_run(shm, run, descriptor)
                yield StaleRun(run, names, directory)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _directory_of(anchor: int | None) -> str | None:
    """Return the run directory that the open anchor names."""
    return os.fsdecode(os.pread(anchor, _LONGEST_PATH, 0)) or None if anchor is not None else None


def _remove_run(shm: Path, run: str, anchor: int | None) -> None:
    """Remove the run's names, the anchor last, which is locked exclusively if it is there."""
    path = _anchor_path(shm, run)
    for name in _own_names(shm).get(run, ()):
        if name != path.name:
            (shm / name).unlink(missing_ok=True)
    directory = _directory_of(anchor)
    if directory is not None:
        remove_dead(directory)
    path.unlink(missing_ok=True)
