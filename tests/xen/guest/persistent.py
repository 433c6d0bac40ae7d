"""In a guest: on each line of input, open the device, talk to the echo service, close; tell in a line how it went.

Each time is a process of its own, forked from this one, which has imported everything. One that does not come to its
end in half a minute tells where it stands, and ends.
"""

import faulthandler
import os
import sys

from refimpl.frontend import Frontend
from refimpl.xen import XenPlatform

ECHO = ("127.0.0.1", 7001)


def attempt() -> str:
    """Return ``ok``, or the error. After one nothing is closed: that would wait for a connect that is under way."""
    try:
        platform = XenPlatform.open()
        frontend = Frontend.open(platform, timeout=4)
        connection = frontend.socket()
        connection.settimeout(4)
        connection.connect(ECHO)
        connection.sendall(b"anybody?")
        received = b""
        while len(received) < 8:
            chunk = connection.recv(8)
            if not chunk:
                return "end of stream"
            received += chunk
        connection.close()
        frontend.close()
        platform.close()
        return "ok" if received == b"ANYBODY?" else repr(received)
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")


for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(30, exit=True)
        print(attempt(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
