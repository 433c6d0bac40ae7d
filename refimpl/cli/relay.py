"""Standard input and output over a PV Calls socket, as netcat does it."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import threading
import time
from dataclasses import dataclass

from refimpl.cli.progress import byte_progress
from refimpl.frontend import Socket

_PIECE_BYTES = 256 * 1024


@dataclass
class Relayed:
    """What went through, in bytes, and how long it took."""

    bytes_sent: int = 0
    bytes_received: int = 0
    seconds: float = 0.0

    def to_json(self) -> str:
        """One line for a program."""
        return json.dumps(self.__dict__)


class _Relay:
    """Copies standard input into a socket, in a thread of its own, and the socket to standard output."""

    def __init__(self, socket: Socket, wait_seconds: float | None) -> None:
        self._socket = socket
        self._wait_seconds = wait_seconds
        self._is_waited_out = False
        self._send_failure: OSError | None = None
        self.relayed = Relayed()

    def run(self) -> Relayed:
        """Copy until the peer ends, or ``wait_seconds`` after our input ended. Raises OSError."""
        began = time.monotonic()
        threading.Thread(target=self._send_input, daemon=True).start()
        total = _size_of_input()
        with byte_progress("relayed", lambda: self.relayed.bytes_sent + self.relayed.bytes_received, total):
            try:
                self._receive_output()
            except OSError:
                if not self._is_waited_out:
                    raise
        if self._send_failure is not None:
            raise self._send_failure
        self.relayed.seconds = time.monotonic() - began
        return self.relayed

    def _send_input(self) -> None:
        try:
            while piece := os.read(sys.stdin.fileno(), _PIECE_BYTES):
                self._socket.sendall(piece)
                self.relayed.bytes_sent += len(piece)
        except OSError as error:
            # The peer may have ended; then what it sent is still to be written, and the end is no failure of ours.
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                self._send_failure = error
        if self._wait_seconds is not None:
            timer = threading.Timer(self._wait_seconds, self._stop_waiting)
            timer.daemon = True
            timer.start()

    def _stop_waiting(self) -> None:
        self._is_waited_out = True
        with contextlib.suppress(OSError):
            self._socket.close()

    def _receive_output(self) -> None:
        buffer = memoryview(bytearray(_PIECE_BYTES))
        while count := self._socket.recv_into(buffer):
            view = buffer[:count]
            while view:
                view = view[os.write(sys.stdout.fileno(), view) :]
            self.relayed.bytes_received += count


def relay(socket: Socket, wait_seconds: float | None) -> Relayed:
    """Relay standard input and output over a connected socket until the peer ends. Raises OSError."""
    return _Relay(socket, wait_seconds).run()


def _size_of_input() -> int | None:
    status = os.fstat(sys.stdin.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None
