"""How the backend carries out the steps of passive sockets: bind, listen, accept, poll.

Each function takes (dispatcher, command, step) and returns the step's result, or WAITING.
"""

from __future__ import annotations

import functools
import select
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from refimpl.backend import network
from refimpl.backend.sockets import SocketEntry
from refimpl.backend.waiting import WAITING
from refimpl.commands import steps
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.steps import SocketState
from refimpl.errors import CommandRefused

if TYPE_CHECKING:
    from refimpl.backend.dispatcher import Dispatcher, PendingCommand


def _bind_socket(dispatcher: Dispatcher, _: PendingCommand, step: Any) -> None:
    network.bind(step.entry.system_socket, step.address)
    step.entry.state = SocketState.BOUND


def _listen_on_socket(dispatcher: Dispatcher, _: PendingCommand, step: Any) -> None:
    entry: SocketEntry = step.entry
    guest = dispatcher.guest
    is_new = entry.state is not SocketState.LISTENING
    if is_new and guest.sockets.count_listeners() >= guest.limits.listeners:
        raise CommandRefused(
            ErrorNumber.EMFILE, f"the guest has {guest.limits.listeners} listeners, its limit"
        )  # SEC-B-6
    network.listen(entry.system_socket, min(step.backlog, guest.limits.backlog))  # E-BACKLOG, SEC-B-24
    if is_new:
        entry.state = SocketState.LISTENING
        guest.add_listener(entry, network.local_address(entry.system_socket))
        events = select.EPOLLIN | select.EPOLLET
        serve = functools.partial(_serve_listener, dispatcher, entry)
        guest.loop.watch(entry.system_socket.fileno(), events, lambda _mask: guest.share.work(serve))


def _accept_connection(dispatcher: Dispatcher, command: PendingCommand, step: Any) -> Any:
    listener: SocketEntry = step.entry
    if len(listener.accepts) >= dispatcher.guest.limits.pending_accepts:
        raise CommandRefused(ErrorNumber.EINTR, "too many ACCEPTs wait on the listener")  # SEC-B-6 (E-ACC-CONC)
    return _wait_on_listener(dispatcher, command, listener, listener.accepts)


def _wait_for_connection(dispatcher: Dispatcher, command: PendingCommand, step: Any) -> Any:
    return _wait_on_listener(dispatcher, command, step.entry, step.entry.polls)


def _wait_on_listener(
    dispatcher: Dispatcher, command: PendingCommand, listener: SocketEntry, queue: deque[PendingCommand]
) -> Any:
    queue.append(command)
    listener.waiting.append(command)

    def stop_waiting() -> None:
        queue.remove(command)
        listener.waiting.remove(command)

    command.cancel = stop_waiting
    dispatcher.guest.share.work_soon(functools.partial(_serve_listener, dispatcher, listener))
    return WAITING


def _serve_listener(dispatcher: Dispatcher, listener: SocketEntry) -> None:
    """Give pending connections to the oldest ACCEPTs; if one is left after that, answer the POLLs (E-POLL-ACC)."""
    while listener.accepts and listener.state is SocketState.LISTENING:
        command = listener.accepts[0]
        try:
            connection = network.accept(listener.system_socket)
        except CommandRefused as refused:
            dispatcher.refuse(command, refused)  # ACCEPT-15
            continue
        if connection is None:
            return  # ACCEPT-6: no response until there is one.
        _stop_waiting(command)
        command.undo.callback(network.reset, connection)  # E-ACC-FAIL
        dispatcher.resume(command, SocketEntry(command.request.id_new, connection))  # ACCEPT-7
    if listener.polls and listener.state is SocketState.LISTENING and network.has_connection(listener.system_socket):
        for command in list(listener.polls):
            _stop_waiting(command)
            dispatcher.resume(command)  # POLL-3


def _stop_waiting(command: PendingCommand) -> None:
    if command.cancel is not None:
        command.cancel()


CARRY_OUT: dict[type, Callable[..., Any]] = {
    steps.BindSocket: _bind_socket,
    steps.ListenOnSocket: _listen_on_socket,
    steps.AcceptConnection: _accept_connection,
    steps.WaitForConnection: _wait_for_connection,
}
