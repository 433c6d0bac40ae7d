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

from refimpl.frontend import Frontend, wait_readable
from refimpl.ready import is_readable
from refimpl.xen import XenPlatform

#: modules/pvcalls-sockets.c
_FAMILY = 19
_MODULES = Path("/usr/lib/refimpl-xen")
#: dom0's services (dom0/services.py), as the backend reaches them ...
ECHO, HASH, SOURCE = ("127.0.0.1", 7001), ("127.0.0.1", 7002), ("127.0.0.1", 7003)
HALF_CLOSE, RESET, COLLECT = ("127.0.0.1", 7005), ("127.0.0.1", 7006), ("127.0.0.1", 7007)
NOBODY = ("127.0.0.1", 1)
#: ... and as we do, without PV Calls.
DOM0 = "10.57.0.1"
CALL_BACK, REPORT = (DOM0, 7004), (DOM0, 7008)
#: Of our listeners: other ones in each cell, since Linux's backend cannot bind to a port that was used a minute ago.
CELLS = [(front, back) for front in ("refimpl", "linux") for back in ("refimpl", "linux-fixed", "linux")]
FIRST_PORT = 9000 + 100 * CELLS.index((os.environ["FRONT"], os.environ["BACK"]))
#: Seconds any one call may take: nobody waits for ever, since Linux's frontend then cannot even be killed. What stalls
#: with Linux's backend as Debian has it stalls for good.
PATIENCE = 6.0 if os.environ["BACK"] == "linux" else 20.0


def receive(connection: Any, count: int) -> bytes:
    """Receive exactly so many bytes, or what comes before the end."""
    received = bytearray()
    while len(received) < count:
        chunk = connection.recv(min(count - len(received), 65536))
        if not chunk:
            break
        received += chunk
    return bytes(received)


def called_back(address: str, port_number: int) -> socket.socket:
    """Have dom0 connect to a listener of ours; return a connection that brings what is said there."""
    caller = socket.create_connection(CALL_BACK, 60)
    caller.sendall(socket.inet_aton(address) + port_number.to_bytes(2, "big"))
    return caller


class Sockets(Protocol):
    """What a test asks of a frontend; the sockets are the socket module's, or like them."""

    def connect(self, address: tuple[str, int]) -> Any:
        """Return a connected socket."""

    def listen(self, address: tuple[str, int], backlog: int = 8) -> Any:
        """Return a listening socket."""

    def accept(self, listener: Any) -> Any:
        """Return the next connection's socket."""

    def try_accept(self, listener: Any) -> Any:
        """Return the next connection's socket if there is one. Raises BlockingIOError."""

    def is_readable(self, listener: Any, seconds: float) -> bool:
        """Wait until there is a connection, at most so long."""

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

    def try_accept(self, listener: Any) -> Any:
        """See :class:`Sockets`."""
        listener.settimeout(0)
        try:
            return self.accept(listener)
        finally:
            listener.settimeout(PATIENCE)

    def is_readable(self, listener: Any, seconds: float) -> bool:
        """See :class:`Sockets`."""
        return bool(wait_readable([listener], seconds))

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
        deadline = time.monotonic() + PATIENCE
        # In short turns, since the driver loses wake-ups: at the end of each turn poll looks once more.
        while not is_readable(listener, 0.2):
            if time.monotonic() > deadline:
                raise TimeoutError("no connection")
        accepted = self._wrap(self._libc.accept4(listener.fileno(), None, None, 0))
        accepted.settimeout(PATIENCE)
        return accepted

    def try_accept(self, listener: Any) -> Any:
        """See :class:`Sockets`."""
        listener.setblocking(False)
        try:
            accepted = self._wrap(self._libc.accept4(listener.fileno(), None, None, 0))
        finally:
            listener.setblocking(True)
        accepted.settimeout(PATIENCE)
        return accepted

    def is_readable(self, listener: Any, seconds: float) -> bool:
        """See :class:`Sockets`. By epoll, which looks again only when it is woken."""
        with select.epoll() as epoll:
            epoll.register(listener, select.EPOLLIN)
            return bool(epoll.poll(seconds))

    def _socket(self) -> socket.socket:
        return self._wrap(self._libc.socket(_FAMILY, socket.SOCK_STREAM, 0))

    def _wrap(self, descriptor: int) -> socket.socket:
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        # With family, type and protocol given, Python asks the kernel for none of them.
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)

    def close(self) -> None:
        """See :class:`Sockets`."""
