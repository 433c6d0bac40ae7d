"""A TCP server that sends back what it gets: what guests connect to in tests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from refimpl.testing.processes import Line


class echo_server:
    """A TCP server that sends back what it gets; gives its address."""

    def __enter__(self) -> tuple[str, int]:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._start(self._accept)
        address: tuple[str, int] = self._listener.getsockname()
        return address

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _start(self, function: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=function, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)


def echoing(line: Line) -> None:
    """Be such a server in a process of its own: report the address, and serve until killed."""
    with echo_server() as address:
        line(address)
        threading.Event().wait()
