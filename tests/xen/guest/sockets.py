"""Sockets over PV Calls, of refimpl's frontend or of Linux's, used alike."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Protocol

from refimpl.frontend import Frontend
from refimpl.xen import XenPlatform

#: modules/pvcalls-sockets.c
_FAMILY = 19
_MODULES = Path("/usr/lib/refimpl-xen")
#: Seconds any one call may take: nobody waits for ever, since Linux's frontend then cannot even be killed. What stalls
#: with Linux's backend as Debian has it stalls for good.
PATIENCE = 6.0 if os.environ["BACK"] == "linux" else 20.0


class Sockets(Protocol):
    """What a test asks of a frontend; the sockets are the socket module's, or like them."""

    def connect(self, address: tuple[str, int]) -> Any:
        """Return a connected socket."""

    def listen(self, address: tuple[str, int], backlog: int = 8) -> Any:
        """Return a listening socket."""

    def accept(self, listener: Any) -> Any:
        """Return the next connection's socket."""

    def close(self) -> None:
        """Let the device go."""


class RefimplSockets:
    """refimpl's frontend, in this process."""

    def __init__(self) -> None:
        self.platform = XenPlatform.open()
        self.frontend = Frontend.open(self.platform)

    def connect(self, address: tuple[str, int]) -> Any:
        """See :class:`Sockets`."""
        return self.frontend.create_connection(address, timeout=PATIENCE)

    def listen(self, address: tuple[str, int], backlog: int = 8) -> Any:
        """See :class:`Sockets`."""
        listener = self.frontend.create_server(address, backlog)
        listener.settimeout(PATIENCE)
        return listener

    def accept(self, listener: Any) -> Any:
        """See :class:`Sockets`."""
        accepted, _ = listener.accept()
        accepted.settimeout(PATIENCE)
        return accepted

    def close(self) -> None:
        """See :class:`Sockets`."""
        self.frontend.close()
        self.platform.close()


class LinuxSockets:
    """Linux's frontend, by the address family that modules/ adds. It takes the device once and never lets go."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        state = Path("/sys/bus/xen/drivers/pvcalls")
        if not state.exists():
            for module in ("pvcalls_front", "pvcalls-sockets"):
                subprocess.run(["insmod", _MODULES / f"{module}.ko"], check=True)
        deadline = time.monotonic() + PATIENCE
        while self._read("device/pvcalls/0/state") != "4":
            assert time.monotonic() < deadline, f"state {self._read('device/pvcalls/0/state')}"
            time.sleep(0.02)

    def _read(self, path: str) -> str:
        return subprocess.run(["xenstore-read", path], capture_output=True, text=True).stdout.strip()

    def connect(self, address: tuple[str, int]) -> Any:
        """See :class:`Sockets`."""
        made = self._socket()
        try:
            made.connect(address)
        except BaseException:
            made.close()
            raise
        made.settimeout(PATIENCE)
        return made

    def listen(self, address: tuple[str, int], backlog: int = 8) -> Any:
        """See :class:`Sockets`."""
        made = self._socket()
        try:
            made.bind(address)
            made.listen(backlog)
        except BaseException:
            made.close()
            raise
        return made

    def accept(self, listener: Any) -> Any:
        """See :class:`Sockets`."""
        if not select.select([listener], [], [], PATIENCE)[0]:
            raise TimeoutError("no connection")
        accepted = self._wrap(self._libc.accept4(listener.fileno(), None, None, 0))
        accepted.settimeout(PATIENCE)
        return accepted

    def _socket(self) -> socket.socket:
        return self._wrap(self._libc.socket(_FAMILY, socket.SOCK_STREAM, 0))

    def _wrap(self, descriptor: int) -> socket.socket:
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        # With family, type and protocol given, Python asks the kernel for none of them.
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)

    def close(self) -> None:
        """See :class:`Sockets`."""
