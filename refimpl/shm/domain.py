"""What a process holds as a domain: its numbers, its memory, what wakes it, and its place in the run."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress

import posix_ipc

from refimpl.errors import DomainClosed, Misuse, PermissionRefused
from refimpl.platform import PAGE_SIZE
from refimpl.shm.arena import Arena
from refimpl.shm.control import Control, close_all
from refimpl.shm.eventfds import Eventfd, EventfdWakeUp
from refimpl.shm.incarnations import segment_names
from refimpl.shm.lives import map_lives
from refimpl.shm.names import Anchor
from refimpl.shm.segments import (
    FIRST_PAGE,
    LARGEST_ARENA,
    TABLES,
    check_machine,
    create_segment,
    map_segment,
    reserve,
    table_offset,
)
from refimpl.shm.semaphores import WakeUp
from refimpl.shm.tables import Tables


class Domain:
    """A domain of a run, lived in by this process until :meth:`leave`."""

    def __init__(
        self, run_directory: str | os.PathLike[str], domid: int | None, arena_pages: int, *, selectable: bool
    ) -> None:
        """Join the run. Raises PlatformError, Misuse."""
        check_machine()
        if not FIRST_PAGE < arena_pages <= LARGEST_ARENA:
            raise Misuse(f"an arena has {FIRST_PAGE + 1} to {LARGEST_ARENA} pages, not {arena_pages}")
        with ExitStack() as undo:
            self.control = Control(run_directory)
            undo.callback(self.control.close)
            run = self._join(domid, selectable)
            anchor = Anchor.share(run)
            if anchor is None:
                raise DomainClosed(f"the run in {run_directory} has just ended")
            self._anchor = anchor
            undo.callback(anchor.leave)
            for_reading = self._create_segments(run, arena_pages, undo)
            self._enter(for_reading, arena_pages)
            self._leaving = undo.pop_all()

    def leave(self) -> None:
        """Leave the run; what peers map of this domain stays as it is. A second call does nothing."""
        with suppress(DomainClosed):
            self.control.call({"call": "leave"})
        self._leaving.close()

    def _join(self, domid: int | None, selectable: bool) -> str:
        process = os.pidfd_open(os.getpid())
        try:
            answer, descriptors = self.control.call(
                {"call": "join", "domid": domid, "selectable": selectable}, [process]
            )
        finally:
            os.close(process)
        if "refused" in answer:
            close_all(descriptors)
            raise PermissionRefused(answer["refused"])
        self.domid: int = answer["domid"]
        #: No other domain of the run, before or after, has this number.
        self.incarnation: int = answer["incarnation"]
        try:
            self.lives = map_lives(descriptors[0])
        except PermissionRefused:
            close_all(descriptors[1:])
            raise
        self.wake_up = _wake_up(answer["semaphore"], descriptors[1:])
        run: str = answer["run"]
        return run

    def _create_segments(self, run: str, arena_pages: int, undo: ExitStack) -> int:
        """Make the arena and the tables; return a descriptor for reading the latter, closed with ``undo``."""
        arena_name, tables_name = segment_names(run, self.incarnation)
        arena, arena_for_reading = create_segment(arena_name, arena_pages * PAGE_SIZE)
        undo.callback(os.close, arena)
        os.close(arena_for_reading)
        self.tables_descriptor, tables_for_reading = create_segment(tables_name, TABLES.itemsize)
        undo.callback(close_all, (self.tables_descriptor, tables_for_reading))
        # All that peers read; the rows of the maps follow as they are needed.
        reserve(self.tables_descriptor, 0, arena_pages * 4)
        reserve(self.tables_descriptor, table_offset("bound"), table_offset("maps") - table_offset("bound"))
        self.tables = Tables(map_segment(self.tables_descriptor, TABLES.itemsize, writable=True))
        self.arena = Arena(arena, arena_pages)
        return tables_for_reading

    def _enter(self, tables_for_reading: int, arena_pages: int) -> None:
        message = {"call": "enter", "page_count": arena_pages}
        answer, _ = self.control.call(message, [self.arena.descriptor, tables_for_reading])
        if "refused" in answer:
            raise PermissionRefused(answer["refused"])
        #: Where xenstore takes us for this domain.
        self.store_path: str = answer["store"]


def _wake_up(semaphore: str | None, eventfds: list[int]) -> WakeUp | EventfdWakeUp:
    """Return what wakes this domain. Raises DomainClosed."""
    if semaphore is None:
        return EventfdWakeUp(Eventfd(eventfds[0]))
    try:
        return WakeUp(posix_ipc.Semaphore(semaphore))
    except (posix_ipc.ExistentialError, FileNotFoundError) as error:
        raise DomainClosed("the run has just ended") from error
