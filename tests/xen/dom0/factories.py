"""Domains for the conformance suite: dom0 with guests."""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from guests import Guest

from refimpl.testing import Factory, Peers, Spawned
from refimpl.testing.conformance.remote import RemotePlatform
from refimpl.xen import XenPlatform

#: Where guest/platforms.py listens.
_PORT = 5758


class InGuest(Spawned):
    """A process of a guest that holds its platform."""

    pid = None

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        connection = socket.create_connection((guest.address, _PORT))
        line = bytearray()
        while not line.endswith(b"\n"):
            line += connection.recv(1)
        self._process = int(line)
        self.platform = RemotePlatform(multiprocessing.connection.Connection(connection.detach()))

    def start(self, function: Callable[..., Any], *arguments: Any) -> Callable[[float], Any]:
        """See :meth:`Spawned.start`."""
        number = self.platform.link.begin("run", function, arguments)
        return lambda patience: self.platform.link.result_of(number, patience)

    def kill(self) -> None:
        """See :meth:`Spawned.kill`."""
        self._guest.run(f"kill -9 {self._process}")
        self._await_end()

    def close(self) -> None:
        """See :meth:`Spawned.close`."""
        self.platform.link.close()
        self._await_end()

    def _await_end(self) -> None:
        self._guest.run(f"while [ -d /proc/{self._process} ]; do usleep 5000; done")
        self.platform.link.close()


class Dom0AndGuests(Factory):
    """dom0 and guests, a domain each; a domain in another process is another process of the first guest."""

    name = "dom0 and guests"
    peers_in_one_process = False
    process_is_domain = False
    can_exhaust = False  # A guest's processes, and so the checks, share what it may grant.
    stranger = 30_000

    def __init__(self, guests: list[Guest]) -> None:
        self._guests = guests
        self._servers = [(guest, guest.start("exec python3 /source/tests/xen/guest/platforms.py")) for guest in guests]
        for guest in guests:
            self._await_server(guest)

    def close(self) -> None:
        """End the servers."""
        for guest, process in self._servers:
            guest.run(f"kill {process}")

    def _await_server(self, guest: Guest) -> None:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                InGuest(guest).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise AssertionError(guest.run("cat /tmp/background.log")) from None
                time.sleep(0.1)

    @contextlib.contextmanager
    def peers(self, count: int = 2) -> Iterator[Peers]:
        """Open the devices of dom0 and of ``count - 1`` guests."""
        with contextlib.ExitStack() as stack:
            platforms = [stack.enter_context(XenPlatform.open())]
            for guest in self._guests[: count - 1]:
                platforms.append(stack.enter_context(InGuest(guest)).platform)
            yield Peers(self, platforms)

    def spawn(self, domid: int | None = None) -> Spawned:
        """Open the devices in a process of the first guest."""
        return InGuest(self._guests[0])
