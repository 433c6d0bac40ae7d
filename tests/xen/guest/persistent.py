"""In a guest: on each line of input, open the device, talk to the echo service, close; tell in a line how it went.

One that does not come to its end in half a minute tells where it stands, and ends.
"""

import faulthandler
import sys

from refimpl.frontend import Frontend
from refimpl.xen import XenPlatform

ECHO = ("127.0.0.1", 7001)


def attempt() -> str:
    """Return ``ok``, or the error."""
    try:
        with (
            XenPlatform.open() as platform,
            Frontend.open(platform, timeout=4) as frontend,
            frontend.create_connection(ECHO, timeout=4) as connection,
        ):
            connection.sendall(b"anybody?")
            received = b""
            while len(received) < 8:
                chunk = connection.recv(8)
                if not chunk:
                    return "end of stream"
                received += chunk
            return "ok" if received == b"ANYBODY?" else repr(received)
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")


for _ in sys.stdin:
    faulthandler.dump_traceback_later(30, exit=True)
    answer = attempt()
    faulthandler.cancel_dump_traceback_later()
    print(answer, flush=True)
