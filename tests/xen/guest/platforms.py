"""In a guest: give every connection a process with a platform of its own, for the conformance suite in dom0.

Each is forked from this one, which has imported everything: starting Python anew takes seconds under emulation.
"""

import os
import signal
import socket
from multiprocessing.connection import Connection

import refimpl.testing  # noqa: F401 - the functions that checks start are found in what it imports
from refimpl.testing.conformance.agent import Agent
from refimpl.xen import XenPlatform

PORT = 5758


def main() -> None:
    """Serve until killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.create_server(("", PORT)) as server:
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                serve(connection)
            connection.close()


def serve(connection: socket.socket) -> None:
    """Tell the process id, then be the agent of a platform until the other side closes."""
    try:
        connection.sendall(b"%d\n" % os.getpid())
        Agent(Connection(connection.detach()), XenPlatform.open()).serve()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
