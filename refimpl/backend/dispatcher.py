"""Carries out commands, step by step: the one place where requests meet sockets, grants and event channels.

A command's generator (``refimpl.commands``) yields steps; the dispatcher carries each out, by ``active_sockets`` and
``passive_sockets``, and sends the result back until the command ends or has to wait. Every request gets exactly one
response, whatever happens to it, except that none is sent after the device left Connected. What a step acquires puts
its release on the command's own exit stack: a command that fails unwinds it, one that succeeds leaves it to the socket.

Spec: Commands Ring, the backend's part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from refimpl.backend import active_sockets, passive_sockets
from refimpl.backend.guest import Guest
from refimpl.backend.policy import ALLOWED, Decision
from refimpl.backend.sockets import new_entry
from refimpl.backend.waiting import WAITING
from refimpl.commands import expanding, steps
from refimpl.commands.address_format import SOCKADDR_IN_SIZE_BYTES, InternetAddress
from refimpl.commands.error_numbers import ErrorNumber, to_wire
from refimpl.commands.message import Response
from refimpl.errors import CommandRefused


class PendingCommand:
    """A request that is being carried out."""

    __slots__ = ("cancel", "request", "steps", "undo")

    def __init__(self, slot: bytes) -> None:
        self.request, self.steps = expanding.decode(slot)
        #: What to let go of if the command fails.
        self.undo = ExitStack()
        #: While it waits: takes it off whatever it waits for.
        self.cancel: Callable[[], None] | None = None

    def rewrite(self, address: InternetAddress) -> None:
        """Carry it out, of which nothing is done yet, with another address; the request itself stays the guest's."""
        changed = dataclasses.replace(self.request, addr=address.to_bytes(), len=SOCKADDR_IN_SIZE_BYTES)
        self.steps = expanding.COMMANDS[changed.cmd][1](changed)


class Dispatcher:
    """Carries out one guest's commands; ``respond(response)`` puts an answer on the commands ring."""

    def __init__(self, guest: Guest, respond: Callable[[Response], None]) -> None:
        self.guest = guest
        self._respond = respond
        self._pending: dict[PendingCommand, None] = {}
        self._is_closed = False

    def start(self, slot: bytes) -> None:
        """Begin to carry out a request, given its private 64 bytes."""
        command = PendingCommand(slot)
        self._pending[command] = None
        name = expanding.command_name(command.request.cmd)
        self.guest.statistics.commands[name] += 1
        if self.guest.observer is not None:
            self.guest.observer.request_taken(self.guest.domid, command.request)
        decision = self._decide(name, command.request)
        if decision is not ALLOWED:
            self._heed(command, decision)
        if command in self._pending:
            self._advance(command, None)

    def _decide(self, name: str, request: Any) -> Decision:
        try:
            return self.guest.decide(name, request)
        except Exception as error:  # Whatever it is: a call that cannot be decided is refused, and the others go on.
            number = error.errno if isinstance(error, OSError) else None
            error_number = to_wire(number) if number else ErrorNumber.EACCES
            return Decision(f"{name}: it cannot be decided: {error!r}", error_number)  # SEC-B-15

    def _heed(self, command: PendingCommand, decision: Decision) -> None:
        if self.guest.observer is not None:
            self.guest.observer.decided(self.guest.domid, command.request, decision)
        if decision.error_number is not None:
            self._fail(command, CommandRefused(decision.error_number, decision.why))  # RAT-4, SEC-B-15
        elif decision.address is not None:
            command.rewrite(decision.address)

    def _advance(self, command: PendingCommand, result: Any) -> None:
        observer = self.guest.observer
        try:
            while True:
                step = command.steps.send(result)
                if observer is not None:
                    observer.step_begun(self.guest.domid, command.request, step)
                result = _CARRY_OUT[type(step)](self, command, step)
                if result is WAITING:
                    return
        except StopIteration:
            command.undo.pop_all()
            self._end(command, 0)  # SOCKET-6, RING-15
        except CommandRefused as refused:
            self._fail(command, refused)

    def resume(self, command: PendingCommand, result: Any = None) -> None:
        """Go on with a command that waited, its step's result being ``result``."""
        command.cancel = None
        if command in self._pending:
            self._advance(command, result)

    def refuse(self, command: PendingCommand, refused: CommandRefused) -> None:
        """End a command that waits, or whose wait has just failed."""
        cancel, command.cancel = command.cancel, None
        if cancel is not None:
            cancel()
        if command in self._pending:
            command.steps.close()
            self._fail(command, refused)

    def _fail(self, command: PendingCommand, refused: CommandRefused) -> None:
        command.undo.close()
        self.guest.statistics.refused += 1
        self._end(command, refused.error_number, refused.reason)

    def _end(self, command: PendingCommand, ret: int, reason: str = "") -> None:
        del self._pending[command]
        if self.guest.observer is not None:
            self.guest.observer.response_put(self.guest.domid, command.request, ret, reason)
        if not self._is_closed:
            self._respond(
                Response.to(command.request, ret)
            )  # SOCKET-5, CONNECT-16, RELEASE-11, BIND-5, LISTEN-3, ACCEPT-14, POLL-5, SEC-B-4

    def close(self) -> None:
        """Tear everything down and answer nothing: every command unwound, every socket closed as RELEASE does it."""
        self._is_closed = True  # E-PENDING-CLOSE
        for command in list(self._pending):
            self.refuse(command, CommandRefused(ErrorNumber.EIO, "the device closed"))
        for entry in self.guest.sockets:
            for step in (
                steps.CloseSocket(entry),
                steps.UnmapDataRing(entry),
                steps.UnmapIndexesPage(entry),
                steps.UnbindEventChannel(entry),
                steps.ForgetSocket(entry),
            ):
                _CARRY_OUT[type(step)](self, None, step)  # STATE-9, CONNECT-12


def _reserve_id(dispatcher: Dispatcher, command: PendingCommand, step: steps.ReserveId) -> None:
    dispatcher.guest.sockets.reserve(step.id)
    command.undo.callback(dispatcher.guest.sockets.remove, step.id)


def _open_socket(dispatcher: Dispatcher, _: PendingCommand, step: steps.OpenSocket) -> None:
    dispatcher.guest.sockets.add(new_entry(step.id))


def _find_socket(dispatcher: Dispatcher, _: PendingCommand, step: steps.FindSocket) -> Any:
    entry = dispatcher.guest.sockets.find(step.id)  # CONNECT-5
    if entry is None:
        raise CommandRefused(ErrorNumber.EBADF, f"no socket {step.id:#x}")  # E-UNKNOWN-ID
    return entry


def _find_socket_if_any(dispatcher: Dispatcher, _: PendingCommand, step: steps.FindSocketIfAny) -> Any:
    return dispatcher.guest.sockets.find(step.id)


def _forget_socket(dispatcher: Dispatcher, _: PendingCommand, step: steps.ForgetSocket) -> None:
    dispatcher.guest.sockets.remove(step.entry.id)


#: How each step is carried out: (dispatcher, command, step) -> its result, or WAITING.
_CARRY_OUT: dict[type, Callable[..., Any]] = {
    steps.ReserveId: _reserve_id,
    steps.OpenSocket: _open_socket,
    steps.FindSocket: _find_socket,
    steps.FindSocketIfAny: _find_socket_if_any,
    steps.ForgetSocket: _forget_socket,
    **active_sockets.CARRY_OUT,
    **passive_sockets.CARRY_OUT,
}
