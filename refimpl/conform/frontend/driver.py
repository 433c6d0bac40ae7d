"""Plain socket calls for a guest whose frontend is observed by `refimpl conform frontend`.

    python3 driver.py --sockets refimpl            refimpl's own frontend (on a laptop: with REFIMPL_RUN set)
    python3 driver.py --sockets family:19          an address family whose sockets go to the frontend, by its number
    python3 driver.py --sockets system             ordinary sockets, where the kernel sends them to the frontend

It connects to made-up services, listens, and tells over a last connection what its calls came to. Nothing but Python's
own library is needed for the last two. Change it, or write another: what no program calls is not observable.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import socket
import sys
import time
from typing import Any

HOST = "127.0.0.1"
#: TCP port numbers of the services, as inetd had them where it had such a one.
REFUSED, TELL, ECHO, DISCARD, GREET, RESET, GENERATE = 1, 4, 7, 9, 13, 15, 19
LISTENING = 7300
PATIENCE = 30.0
#: More than once around any data ring.
STREAMED = 2_200_000


class SystemSockets:
    """Sockets of the kernel, of any address family that takes struct sockaddr_in."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._libc = ctypes.CDLL(None, use_errno=True)

    def socket(self) -> Any:
        """Make a socket."""
        return self._wrap(self._libc.socket(self._family, socket.SOCK_STREAM, 0))

    def accept(self, listener: Any) -> Any:
        """Accept the next connection."""
        return self._wrap(self._libc.accept4(listener.fileno(), None, None, 0))

    def is_readable(self, made: Any, seconds: float) -> bool:
        """Wait until a socket is readable."""
        poll = select.poll()  # select fails for a descriptor above 1023.
        poll.register(made, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _wrap(self, descriptor: int) -> Any:
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)

    def close(self) -> None:
        """The kernel keeps its device."""


class RefimplSockets:
    """refimpl's frontend, in this process."""

    def __init__(self, platform: str) -> None:
        from refimpl.cli.options import default_run_directory, open_platform
        from refimpl.frontend import Frontend

        directory = os.environ.get("REFIMPL_RUN") or default_run_directory()
        self._platform = open_platform(platform, directory)
        self._frontend = Frontend.open(self._platform, timeout=PATIENCE)

    def socket(self) -> Any:
        """Make a socket."""
        return self._frontend.socket()

    def accept(self, listener: Any) -> Any:
        """Accept the next connection."""
        return listener.accept()[0]

    def is_readable(self, made: Any, seconds: float) -> bool:
        """Wait until a socket is readable."""
        from refimpl.frontend import wait_readable

        return bool(wait_readable([made], seconds))

    def close(self) -> None:
        """Let the device go."""
        self._frontend.close()
        self._platform.close()


def pattern(first: int, count: int) -> bytes:
    """Return bytes of the endless pattern that both sides know."""
    whole = bytes(range(251))
    start = first % 251
    return (whole * (count // 251 + 2))[start : start + count]


def receive(made: Any, count: int) -> bytes:
    """Receive so many bytes, or what comes before the end."""
    received = bytearray()
    while len(received) < count:
        chunk = made.recv(min(65536, count - len(received)))
        if not chunk:
            break
        received += chunk
    return bytes(received)


class Calls:
    """The calls, each named; what each comes to is kept."""

    def __init__(self, sockets: Any) -> None:
        self._sockets = sockets

    def connect(self, number: int) -> Any:
        """Connect to a service."""
        made = self._sockets.socket()
        try:
            made.connect((HOST, number))
        except BaseException:
            made.close()
            raise
        if hasattr(made, "settimeout"):
            made.settimeout(PATIENCE)
        return made

    def refused(self) -> None:
        """A connect that is refused says so."""
        self.connect(REFUSED).close()

    def echo(self) -> object:
        """Small messages there and back."""
        made = self.connect(ECHO)
        for number in range(20):
            word = b"message %d" % number
            made.sendall(word)
            if receive(made, len(word)) != word:
                return "garbled"
        made.close()
        return "equal"

    def stream(self) -> object:
        """Many bytes one way: around `out` more than once."""
        made = self.connect(DISCARD)
        for first in range(0, STREAMED, 50_000):
            made.sendall(pattern(first, 50_000))
        made.close()
        return STREAMED

    def generate(self) -> object:
        """Many bytes the other way, to the end of the stream."""
        made = self.connect(GENERATE)
        received = receive(made, 10_000_000)
        made.close()
        return [len(received), received == pattern(0, len(received))]

    def end(self) -> object:
        """The end of a stream comes after its data, and stays."""
        made = self.connect(GREET)
        received = [made.recv(100).decode() for _ in range(3)]
        made.close()
        return received

    def reset(self) -> object:
        """A connection that is reset is an error, after the data that came before."""
        made = self.connect(RESET)
        time.sleep(0.3)
        received = b""
        try:
            while chunk := made.recv(100):
                received += chunk
        finally:
            made.close()
        return received.decode()

    def listen(self) -> object:
        """bind, listen, poll, accept, and bytes both ways; twice, the second time without poll."""
        listener = self._sockets.socket()
        heard = []
        try:
            listener.bind((HOST, LISTENING))
            listener.listen(5)
            for polled in (True, False):
                if polled and not self._sockets.is_readable(listener, PATIENCE):
                    return "nobody came"
                accepted = self._sockets.accept(listener)
                accepted.sendall(b"who is there")
                heard.append(receive(accepted, 17).decode())
                accepted.close()
        finally:
            listener.close()
        return heard

    def many(self) -> object:
        """More requests than the ring has slots, of sockets at once and one after another."""
        opened = [self.connect(ECHO) for _ in range(5)]
        for made in opened:
            made.sendall(b"all at once")
        words = [receive(made, 11) for made in opened]
        for made in opened:
            made.close()
        for _ in range(8):
            self.connect(ECHO).close()
        return words == [b"all at once"] * 5

    def unused(self) -> object:
        """Close a socket that did nothing. Not called unless named: Linux 6.1's frontend does not survive it."""
        self._sockets.socket().close()
        return "closed"

    def tell(self, told: dict[str, object]) -> None:
        """Say what the calls came to."""
        made = self.connect(TELL)
        for name, value in told.items():
            made.sendall(json.dumps({name: value}).encode() + b"\n")
        made.sendall(b'{"done": true}\n')
        time.sleep(0.5)  # Until it was read: not every frontend sends at close what it holds.
        made.close()


def main() -> None:
    """Make the calls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", default="refimpl", metavar="KIND", help="refimpl (default), family:N or system")
    parser.add_argument("--platform", default="auto", choices=("auto", "shm", "xen"), help="of refimpl's frontend")
    parser.add_argument("call", nargs="*", help="only these calls")
    options = parser.parse_args()
    sockets: RefimplSockets | SystemSockets
    if options.sockets == "refimpl":
        sockets = RefimplSockets(options.platform)
    else:
        _, _, number = options.sockets.partition(":")
        sockets = SystemSockets(int(number or socket.AF_INET))
    calls = Calls(sockets)
    told: dict[str, object] = {}
    for name in options.call or ("refused", "echo", "stream", "generate", "end", "reset", "listen", "many"):
        try:
            told[name] = getattr(calls, name)()
        except OSError as error:
            told[name] = f"{type(error).__name__} {error.errno}"
        print(f"{name}: {told[name]}", file=sys.stderr, flush=True)
    calls.tell(told)
    sockets.close()


if __name__ == "__main__":
    main()
