"""One incarnation of a domain, as the hypervisor has it: its process, its segments, what wakes it and its names."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

import posix_ipc

from refimpl.ready import is_readable
from refimpl.shm.control import close_all
from refimpl.shm.eventfds import Eventfd
from refimpl.shm.names import object_name
from refimpl.shm.semaphores import post

_CREDENTIALS = struct.Struct("=iII")


class Refused(Exception):
    """A call is refused; the words go to the caller."""


def segment_names(run: str, incarnation: int) -> tuple[str, str]:
    """Return the names that the arena and the tables have while they are made."""
    return object_name(run, f"{incarnation}a"), object_name(run, f"{incarnation}t")


class Incarnation:
    """A domain's incarnation, from ``join`` on."""

    def __init__(self, domid: int, incarnation: int, process: int, run: str, *, selectable: bool = False) -> None:
        """Make its semaphore, or an eventfd for one to be selected on; ``process`` is a pidfd, kept."""
        self.domid = domid
        self.incarnation = incarnation
        self.process = process
        #: Descriptors of the arena and the tables; None before ``enter``.
        self.segments: list[int] | None = None
        self.page_count = 0
        self._segment_names = segment_names(run, incarnation)
        self.semaphore_name: str | None = None
        #: What a peer needs of the eventfd, if that is what wakes the domain.
        self.eventfds: list[int] = []
        self._wake_up: posix_ipc.Semaphore | Eventfd
        if selectable:
            self._wake_up = Eventfd()
            self.eventfds = [self._wake_up.descriptor]
        else:
            self.semaphore_name = object_name(run, f"{incarnation}s")
            self._wake_up = posix_ipc.Semaphore(self.semaphore_name, posix_ipc.O_CREX, mode=0o600)

    @property
    def is_dead(self) -> bool:
        """Whether its process has ended, noticed or not."""
        return is_readable(self.process, 0)

    def wake(self) -> None:
        """Let it look for events that nobody told it of."""
        post(self._wake_up)

    def close(self) -> None:
        """Remove its names and close what is open of it here."""
        if self.semaphore_name is not None:
            with suppress(posix_ipc.ExistentialError):
                posix_ipc.unlink_semaphore(self.semaphore_name)
        self._wake_up.close()
        for name in self._segment_names:
            with suppress(posix_ipc.ExistentialError):
                posix_ipc.unlink_shared_memory(name)  # killed between making it and removing its name
        close_all([self.process, *(self.segments or ())])


def check_process(connection: socket.socket, process: int) -> None:
    """Raise Refused unless ``process`` is a pidfd of the process that connected, which is this user's."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(credentials)
    if user != os.geteuid():
        raise Refused("another user's process cannot be a domain of this run")
    fields = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{process}").read_text().splitlines())
    if int(fields.get("Pid", 0)) != pid:
        raise Refused("a domain's process proves itself by its own pidfd")
