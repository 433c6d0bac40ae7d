"""In a guest: hold one socket of the frontend that FRONT names, while others do what they do.

``connect PORT`` says each line of its input to that port of dom0's loopback and prints what comes back; ``listen PORT``
takes one connection, sends back in capitals what comes, and prints when it starts and when it ends.
"""

from __future__ import annotations

import os
import sys

from sockets import LinuxSockets, RefimplSockets, receive

#: Longer than anything that is waited for here.
PATIENCE = 60.0


def main() -> None:
    """Hold it until the end of the input, or of the connection."""
    sockets = RefimplSockets() if os.environ["FRONT"] == "refimpl" else LinuxSockets()
    role, address = sys.argv[1], ("127.0.0.1", int(sys.argv[2]))
    if role == "connect":
        connection = sockets.connect(address)
        connection.settimeout(PATIENCE)
        for line in sys.stdin:
            word = line.strip().encode()
            connection.sendall(word)
            print(receive(connection, len(word)).decode(), flush=True)
    else:
        listener = sockets.listen(address)
        print("listening", flush=True)
        connection = sockets.accept(listener)
        connection.settimeout(PATIENCE)
        while chunk := connection.recv(4096):
            connection.sendall(chunk.upper())
        print("ended", flush=True)


main()
