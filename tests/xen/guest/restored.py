"""In a guest that is saved and restored: a frontend that says, line by line, what becomes of it.

``go`` opens the device and talks to the echo service, ``talk`` talks again over the same socket, ``domid`` tells the
domain's number. The platform is one and the same from first to last.
"""

from __future__ import annotations

import sys

from refimpl.frontend import Frontend, Socket
from refimpl.xen import XenPlatform

ECHO = ("127.0.0.1", 7001)


def talk(socket: Socket) -> str:
    """Say something; return what comes back."""
    socket.sendall(b"hello")
    received = b""
    while len(received) < 5 and (chunk := socket.recv(5)):
        received += chunk
    return received.decode()


def main() -> None:
    """Answer each line with what it came to."""
    platform = XenPlatform.open()
    frontend: Frontend | None = None
    for line in sys.stdin:
        try:
            match line.strip():
                case "go":
                    frontend = Frontend.open(platform)
                    socket = frontend.create_connection(ECHO, timeout=20)
                    answer = talk(socket)
                case "talk":
                    answer = talk(socket)
                case _:
                    answer = str(platform.domid)
        except OSError as error:
            answer = f"{type(error).__name__}: {error}"
        print(answer, flush=True)
    if frontend is not None:
        frontend.close()


main()
