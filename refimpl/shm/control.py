"""Calls to the hypervisor: JSON datagrams and descriptors over the run's control socket.

A domain makes four calls, each answered by one datagram: ``join`` (with a pidfd: who am I to be?), ``enter`` (with its
segments: I am ready), ``peer`` (the segments of another domain) and ``leave``. An answer with ``refused`` says why not.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from refimpl.errors import DomainClosed, LimitReached, PlatformUnavailable
from refimpl.shm.forks import abandon_in_child
from refimpl.shm.run_directory import control_path

Message = dict[str, Any]

LARGEST_MESSAGE = 4096
MOST_DESCRIPTORS = 3
_ANCILLARY_SIZE = socket.CMSG_LEN(MOST_DESCRIPTORS * array("i").itemsize)
#: Seconds after which a hypervisor that does not answer is called gone.
PATIENCE = 10.0


class NotAMessage(Exception):
    """The datagram is none of ours, or the other end is gone."""


class NoRoomForDescriptors(NotAMessage):
    """The message came, and not all its descriptors: this process has too many, if its sender sent no more than may be.

    What comes next is unharmed.
    """


def send_message(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message. Raises OSError."""
    socket.send_fds(connection, [json.dumps(message).encode()], descriptors, socket.MSG_NOSIGNAL)


def receive_message(connection: socket.socket) -> tuple[Message, list[int]]:
    """Receive one message with its descriptors, now the caller's. Raises NotAMessage, OSError."""
    # Not socket.recv_fds, which forgets its flags: the descriptors would outlive an exec.
    data, ancillary, flags, _ = connection.recvmsg(LARGEST_MESSAGE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
    descriptors = _descriptors_in(ancillary)
    try:
        if flags & socket.MSG_TRUNC:
            raise NotAMessage("longer than any message")
        if flags & socket.MSG_CTRUNC:
            raise NoRoomForDescriptors("more descriptors than there is room for")
        message = json.loads(data)
        if not isinstance(message, dict):
            raise NotAMessage("no object")
    except NotAMessage:
        close_all(descriptors)
        raise
    except (ValueError, RecursionError) as error:
        close_all(descriptors)
        raise NotAMessage(str(error)) from error
    return message, descriptors


def _descriptors_in(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    descriptors = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return list(descriptors)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


class Control:
    """A domain's connection to the hypervisor. Safe from several threads."""

    def __init__(self, run_directory: str | os.PathLike[str]) -> None:
        """Connect. Raises PlatformUnavailable where no run lives in the directory."""
        path = control_path(run_directory)
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise PlatformUnavailable(f"no run lives in {run_directory} ({error.strerror}): start one there") from error
        abandon_in_child(self)

    def call(self, message: Message, descriptors: Sequence[int] = ()) -> tuple[Message, list[int]]:
        """Make one call; return its answer, with descriptors that are the caller's from now on.

        Raises LimitReached (no room for the answer's descriptors), and DomainClosed: the hypervisor is gone, or does
        not answer; every later call says so at once.
        """
        with self._lock:
            try:
                send_message(self._socket, message, descriptors)
                return receive_message(self._socket)
            except NoRoomForDescriptors as error:
                raise LimitReached("descriptors of this process", None, "close some, or ulimit -n") from error
            except (OSError, NotAMessage) as error:
                # A late answer would be taken for the next call's.
                self._socket.close()
                raise DomainClosed(f"the run's hypervisor is gone ({error})") from error

    def close(self) -> None:
        """Hang up. A second call does nothing."""
        with self._lock:
            self._socket.close()

    def abandon(self) -> None:
        """Close a forked child's copy."""
        with suppress(OSError):
            os.close(self._socket.detach())
