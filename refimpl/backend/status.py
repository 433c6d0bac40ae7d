"""What a running backend says of its guests and sockets, to who asks on a unix socket.

Whoever connects gets lines of JSON, one of the backend, one a guest, one a socket, and then the end. Nothing that is
asked can hold the guests up: few may ask at once, a turn of the loop makes few lines, and who does not take his answer
is dropped. The socket is the backend's user's alone.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refimpl.backend.loop import EventLoop
from refimpl.errors import PeerViolation

if TYPE_CHECKING:
    from refimpl.backend.device import Device
    from refimpl.backend.sockets import SocketEntry

MOST_CLIENTS = 4
LINES_A_TURN = 32
ANSWER_SECONDS = 5.0
_RETRY_SECONDS = 1.0

Lines = Iterator[dict[str, Any]]


def describe(domid: int, devices: list[Device]) -> Lines:
    """Describe a backend, line by line; guests and sockets may come and go meanwhile."""
    yield {"kind": "backend", "domid": domid, "pid": os.getpid(), "at": time.monotonic()}
    for device in devices:
        if device.is_gone:
            continue
        yield _describe_guest(device)
        if device.channel is not None:
            for entry in device.channel.guest.sockets:
                yield {"kind": "socket", "guest": device.guest_id, **_describe_socket(entry)}


def _describe_guest(device: Device) -> dict[str, Any]:
    said: dict[str, Any] = {"kind": "guest", "guest": device.guest_id, "device": device.device_id}
    said["state"] = device.state.name
    guest = None if device.channel is None else device.channel.guest
    totals = device.past if guest is None else guest.current_statistics()
    said |= {"commands": totals.commands.total(), "refused": totals.refused, "bytes_in": totals.bytes_in}
    said |= {"bytes_out": totals.bytes_out, "notifications_sent": totals.notifications_sent}
    if guest is not None:
        said |= {"sockets": len(guest.sockets), "most_sockets": guest.limits.sockets}
        said |= {"listeners": guest.sockets.count_listeners(), "bytes_per_second": guest.limits.bytes_per_second}
    return said


def _describe_socket(entry: SocketEntry) -> dict[str, Any]:
    said: dict[str, Any] = {"id": entry.id, "state": entry.state.name}
    said["local"] = _address_of(entry.system_socket.getsockname)
    said["remote"] = _address_of(entry.system_socket.getpeername)
    connection = entry.connection
    if connection is not None:
        said |= {"bytes_in": connection.bytes_in, "bytes_out": connection.bytes_out}
        said |= {"notifications_sent": connection.notifications_sent, "events_received": connection.events_received}
        with contextlib.suppress(PeerViolation):
            said["in_used"], said["out_used"], said["ring_size"] = connection.fill()
    return said


def _address_of(get: Callable[[], tuple[str, int]]) -> str | None:
    try:
        host, port_number = get()
    except OSError:
        return None
    return f"{host}:{port_number}"


class StatusServer:
    """Answers who asks at ``path`` with the lines of a new ``describe()``. Raises OSError where it cannot be made."""

    def __init__(self, loop: EventLoop, path: str, describe: Callable[[], Lines]) -> None:
        self._loop = loop
        self._path = Path(path)
        self._describe = describe
        self._answers: set[_Answer] = set()
        self._listener = _listen(path)
        self._made = self._path.stat()
        self._watch()

    def _watch(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.watch(self._listener.fileno(), select.EPOLLIN, self._on_client)

    def _on_client(self, _mask: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # Out of descriptors: it would be asked again at once, and forever.
            self._loop.unwatch(self._listener.fileno())
            self._loop.call_later(_RETRY_SECONDS, self._watch)
            return
        if len(self._answers) >= MOST_CLIENTS:
            connection.close()
        else:
            self._answers.add(_Answer(self._loop, connection, self._describe(), self._answers.discard))

    def close(self) -> None:
        """Stop, and take the name away unless it is somebody else's by now."""
        self._loop.unwatch(self._listener.fileno())
        with contextlib.suppress(OSError):
            if os.path.samestat(self._path.stat(), self._made):
                self._path.unlink()
        self._listener.close()
        for answer in list(self._answers):
            answer.close()


class _Answer:
    """One client and the lines it has not got yet."""

    def __init__(
        self, loop: EventLoop, connection: socket.socket, lines: Lines, on_end: Callable[[_Answer], None]
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._lines = lines
        self._on_end = on_end
        self._unsent = b""
        self._is_due = self._is_closed = False
        connection.setblocking(False)
        self._deadline = loop.call_later(ANSWER_SECONDS, self.close)
        loop.watch(connection.fileno(), select.EPOLLOUT | select.EPOLLET, self._on_writable)

    def _on_writable(self, _mask: int) -> None:
        self._send_soon()

    def _send_soon(self) -> None:
        """Send in the next turn, once however often this is called."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        if self._is_closed:
            return
        if not self._unsent:
            some = itertools.islice(self._lines, LINES_A_TURN)
            self._unsent = b"".join(json.dumps(line).encode() + b"\n" for line in some)
        try:
            sent = self._connection.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            return  # An edge comes when there is room.
        except OSError:
            self.close()
            return
        self._unsent = self._unsent[sent:]
        if sent:
            self._send_soon()
        else:
            self.close()

    def close(self) -> None:
        """Let the client go; a second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._deadline.cancel()
            self._loop.unwatch(self._connection.fileno())
            self._connection.close()
            self._on_end(self)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.setblocking(False)
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not is_left_over(path):
                raise
            os.unlink(path)
            listener.bind(path)
        os.chmod(path, 0o600)  # Before it listens: until then nobody can connect.
        listener.listen(MOST_CLIENTS)
    except OSError:
        listener.close()
        raise
    return listener


def is_left_over(path: str) -> bool:
    """Say whether it is a socket of this user's on which nobody listens any more."""
    with socket.socket(socket.AF_UNIX) as trial, contextlib.suppress(OSError):
        if not Path(path).is_socket() or os.lstat(path).st_uid != os.geteuid():
            return False
        return trial.connect_ex(path) == errno.ECONNREFUSED
    return False


def ask(path: str, timeout: float = ANSWER_SECONDS) -> list[dict[str, Any]]:
    """Ask the backend whose status socket is at ``path``; return its lines. Raises OSError where none answers."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(timeout)
        asking.connect(path)
        with asking.makefile("rb") as answer:
            return [json.loads(line) for line in answer]
