"""Whether this machine can run the shm platform, tried out in the small; and what dead runs have left."""

from __future__ import annotations

import os
import platform as machine_platform
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import posix_ipc

from refimpl.diagnosis import Finding
from refimpl.errors import RefimplError
from refimpl.fence import fences
from refimpl.platform import PAGE_SIZE
from refimpl.shm.names import SHM_DIRECTORY, Anchor, StaleRun, find_stale_runs, object_name, remove_stale_runs
from refimpl.shm.run_directory import is_left_over, remove_dead
from refimpl.shm.segments import check_machine, create_segment, map_segment, reserve
from refimpl.shm.semaphores import WakeUp

#: Less free space than this is a finding: 16 sockets of the largest order.
LEAST_FREE_BYTES = 64 << 20
_MIB = 1 << 20
_FIX = "refimpl doctor --fix"


def diagnose(run_directory: str) -> Iterator[Finding]:
    """Try what a run stands on; look for what is left of dead ones, there and in /dev/shm. Removes nothing."""
    try:
        check_machine()
    except RefimplError as error:
        yield Finding("shm", "machine", False, str(error))
        return
    yield Finding("shm", "machine", True, f"64-bit Linux on {machine_platform.machine()}, pages of {PAGE_SIZE} bytes")
    yield _look_at_shared_memory()
    yield _try("shared memory", "a page was made, mapped, written and given back", _use_a_page)
    yield _try("semaphores", "one was made, posted and taken", _use_a_semaphore)
    yield _try("fences", "a full fence was passed", fences().full)
    yield _look_at_descriptors()
    for run in find_stale_runs():
        yield Finding("shm", "left over", False, _describe(run), _FIX)
    if is_left_over(run_directory):
        yield Finding("shm", "left over", False, f"{run_directory}: sockets of a dead run", _FIX)


def mend(run_directory: str) -> Iterator[str]:
    """Remove what dead runs of this user left, and say what that was; nothing that lives or is not ours."""
    for run in remove_stale_runs():
        yield _describe(run)
    if is_left_over(run_directory):
        remove_dead(run_directory)
        yield f"{run_directory}: sockets of a dead run"


def _describe(run: StaleRun) -> str:
    where = f" and {run.directory}" if run.directory is not None and os.path.isdir(run.directory) else ""
    return f"dead run {run.run}: {len(run.names)} names in {SHM_DIRECTORY}{where}"


def _look_at_shared_memory() -> Finding:
    space = os.statvfs(SHM_DIRECTORY)
    free = space.f_bavail * space.f_frsize
    says = f"{free // _MIB} MiB free in {SHM_DIRECTORY}"
    if not os.access(SHM_DIRECTORY, os.W_OK | os.X_OK):
        return Finding("shm", "space", False, f"may not write {SHM_DIRECTORY}", f"sudo chmod 1777 {SHM_DIRECTORY}")
    if free < LEAST_FREE_BYTES:
        remedy = f"sudo mount -o remount,size=1G {SHM_DIRECTORY}"
        return Finding("shm", "space", False, f"{says}: fewer than {LEAST_FREE_BYTES // _MIB}", remedy)
    return Finding("shm", "space", True, says)


def _look_at_descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = "" if soft == hard else f"; ulimit -n {hard} allows more"
    return Finding("shm", "descriptors", True, f"{soft} a process: at most so many sockets a backend{more}")


def _try(subject: str, says: str, attempt: Callable[[], object]) -> Finding:
    try:
        attempt()
    except (RefimplError, OSError, ValueError, posix_ipc.Error) as error:
        return Finding("shm", subject, False, str(error))
    return Finding("shm", subject, True, says)


def _use_a_page() -> None:
    with _own_run() as run:
        writable, read_only = create_segment(object_name(run, "d"), PAGE_SIZE)
        try:
            reserve(writable, 0, PAGE_SIZE)
            map_segment(writable, PAGE_SIZE, writable=True)[:] = bytes(range(256)) * (PAGE_SIZE // 256)
            if map_segment(read_only, PAGE_SIZE, writable=False)[255] != 255:
                raise OSError("two maps of a page do not show the same bytes")
        finally:
            os.close(writable)
            os.close(read_only)


def _use_a_semaphore() -> None:
    with _own_run() as run:
        name = object_name(run, "d")
        semaphore = posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600)
        try:
            waking = WakeUp(semaphore)
        finally:
            semaphore.unlink()
        waking.post()
        if not waking.sleep(monotonic() + 1):
            raise OSError("a semaphore that was posted could not be taken")


@contextmanager
def _own_run() -> Iterator[str]:
    """Give the id of a run without a directory, for names that are found again if we are killed now."""
    anchor = Anchor.create(os.devnull)
    try:
        yield anchor.run
    finally:
        anchor.leave()
