"""Section *Expanding the protocol*: what is not one of the seven commands.

A later document may add commands without a new version, and a backend that does not know one answers ENOTSUP, so
that a frontend can find out. A backend that has more would say so in a node of its own, as ``function-calls`` does
for the seven.
Arguments past 56 bytes need a new version (or two slots, which nobody implements: erratum E-EXPAND).

Spec: Commands Ring > Expanding the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refimpl.commands import accept, bind, connect, listen, poll, release, socket
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.message import Command, RequestHead
from refimpl.commands.steps import Steps
from refimpl.errors import CommandRefused
from refimpl.layout import Structure

#: Each command's request and what a backend does for it.
COMMANDS: dict[int, tuple[type[Structure], Callable[[Any], Steps]]] = {  # EXPAND-1
    Command.SOCKET: (socket.SocketRequest, socket.steps),
    Command.CONNECT: (connect.ConnectRequest, connect.steps),
    Command.RELEASE: (release.ReleaseRequest, release.steps),
    Command.BIND: (bind.BindRequest, bind.steps),
    Command.LISTEN: (listen.ListenRequest, listen.steps),
    Command.ACCEPT: (accept.AcceptRequest, accept.steps),
    Command.POLL: (poll.PollRequest, poll.steps),
}


def decode(slot: bytes) -> tuple[Any, Steps]:
    """Decode a request from a private copy of its 64 bytes; return it and the steps that carry it out.

    A command unknown here is a :class:`~refimpl.commands.message.RequestHead` whose steps refuse it.
    """
    head = RequestHead.from_bytes(slot)
    request_type, steps = COMMANDS.get(head.cmd, (RequestHead, unknown_command))
    request: Any = request_type.from_bytes(slot)
    return request, steps(request)


def command_name(cmd: int) -> str:
    """Return a command's name, ``"CONNECT"``, or ``"unknown"``."""
    return Command(cmd).name if cmd in COMMANDS else "unknown"


def unknown_command(request: RequestHead) -> Steps:
    """Refuse a command that this version does not have."""
    raise CommandRefused(ErrorNumber.ENOTSUP, f"no command {request.cmd}")  # RAT-3, RING-16, EXPAND-1 (E-ENOTSUP)
    yield  # A generator, like every command's steps.
