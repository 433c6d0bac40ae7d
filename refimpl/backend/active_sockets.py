"""How the backend carries out the steps of active sockets: connect, set up the data ring, release.

Each function takes (dispatcher, command, step) and returns the step's result, or WAITING.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from refimpl.backend import network
from refimpl.backend.connection import Connection
from refimpl.backend.loop import Timer
from refimpl.backend.sockets import SocketEntry
from refimpl.backend.waiting import WAITING
from refimpl.commands import steps
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.commands.steps import SocketState
from refimpl.data_ring.indexes_page import PUBLISHED, IndexesPage, recognise_draft_layout
from refimpl.data_ring.workflow import backend_ends
from refimpl.errors import CommandRefused, PeerViolation

if TYPE_CHECKING:
    from refimpl.backend.dispatcher import Dispatcher, PendingCommand

#: How long RELEASE waits at most while a guest's limit of bytes a second lets ``out`` go only slowly. Less than any
#: frontend of ours has patience for.
LONGEST_DRAIN_SECONDS = 120.0


def _connect_socket(dispatcher: Dispatcher, command: PendingCommand, step: Any) -> Any:
    entry: SocketEntry = step.entry
    dispatcher.guest.begin_connect()
    command.undo.callback(_forget_connection, entry)
    entry.state = SocketState.CONNECTING
    try:
        is_done = network.start_connect(entry.system_socket, step.address)
    except CommandRefused:
        dispatcher.guest.end_connect()
        raise
    if is_done:
        dispatcher.guest.end_connect()
        return None
    return _wait_for_connect(dispatcher, command, step)


def _wait_for_connect(dispatcher: Dispatcher, command: PendingCommand, step: Any) -> Any:
    entry, address = step.entry, step.address
    loop, descriptor = dispatcher.guest.loop, entry.system_socket.fileno()

    def stop_waiting() -> None:
        timer.cancel()
        loop.unwatch(descriptor)
        entry.waiting.remove(command)
        dispatcher.guest.end_connect()

    def on_writable() -> None:
        if command.cancel is not stop_waiting:
            return  # It ended while it waited for its turn.
        try:
            network.finish_connect(entry.system_socket, address)
        except CommandRefused as refused:
            dispatcher.refuse(command, refused)
        else:
            stop_waiting()
            dispatcher.resume(command)  # CONNECT-6, CONNECT-10 (E-ORDER)

    def on_timeout() -> None:
        dispatcher.refuse(command, CommandRefused(ErrorNumber.ETIMEDOUT, f"connect to {address}: no answer"))

    timer = loop.call_later(dispatcher.guest.limits.connect_seconds, on_timeout)  # SEC-B-24
    share = dispatcher.guest.share
    loop.watch(descriptor, select.EPOLLOUT | select.EPOLLET, lambda _mask: share.work(on_writable))
    entry.waiting.append(command)
    command.cancel = stop_waiting
    return WAITING


def _forget_connection(entry: SocketEntry) -> None:
    """After a failed CONNECT the frontend may try again on the same id, with a new socket beneath (E-CONN-RETRY)."""
    entry.system_socket.close()
    entry.state = SocketState.CREATED
    try:
        entry.system_socket = network.open_socket()
    except CommandRefused:
        pass  # Out of descriptors: the closed socket refuses the next try.


def _map_indexes_page(dispatcher: Dispatcher, command: PendingCommand, step: Any) -> None:
    entry: SocketEntry = step.entry
    if step.ref == dispatcher.guest.ring_ref:
        raise CommandRefused(ErrorNumber.EFAULT, "ref is the commands ring's own")  # SEC-B-7
    command.undo.callback(entry.unmap_indexes_page)
    # Nothing is kept for a promise to reuse it: what comes again is mapped again, by its ref.
    entry.mapped_page = dispatcher.guest.map([step.ref])  # CONNECT-7, ACCEPT-9, RELEASE-10, SEC-B-22 (E-REUSE)
    memory = entry.mapped_page.memory
    may_be_draft = dispatcher.guest.settings.draft_layouts
    layout = recognise_draft_layout(bytes(memory)) if may_be_draft else PUBLISHED  # E-OFFSET
    entry.indexes_page = IndexesPage(memory, layout)
    entry.page_ref = step.ref


def _map_data_ring(dispatcher: Dispatcher, command: PendingCommand, step: Any) -> None:
    entry: SocketEntry = step.entry
    assert entry.indexes_page is not None
    own_refs = (dispatcher.guest.ring_ref, entry.page_ref)
    try:
        _, refs = entry.indexes_page.read_ring_description(dispatcher.guest.settings.max_ring_order, own_refs)
    except PeerViolation as violation:
        is_bad_grant = violation.field == "ref"
        error_number = ErrorNumber.EFAULT if is_bad_grant else ErrorNumber.EINVAL  # E-MAPFAIL, E-ORDER0
        raise CommandRefused(error_number, str(violation)) from None  # IDXPAGE-4, IDXPAGE-5 (E-MAPFAIL, E-ORDER0)
    command.undo.callback(entry.unmap_data_ring)
    entry.mapped_ring = dispatcher.guest.map(refs)  # CONNECT-8, ACCEPT-10, IDX-5, IDXPAGE-6


def _bind_event_channel(dispatcher: Dispatcher, command: PendingCommand, step: Any) -> None:
    entry: SocketEntry = step.entry
    entry.port = dispatcher.guest.bind(step.evtchn)  # CONNECT-9, ACCEPT-11, CONNECT-3, SEC-B-10
    command.undo.callback(_unbind, dispatcher, entry)


def _start_data_ring(dispatcher: Dispatcher, _: PendingCommand, step: Any) -> None:
    entry: SocketEntry = step.entry
    guest = dispatcher.guest
    assert entry.indexes_page is not None and entry.mapped_ring is not None and entry.port is not None
    try:
        ends = backend_ends(entry.indexes_page, entry.mapped_ring.memory, guest.platform.fences, peer=guest.domid)
    except PeerViolation as violation:
        raise CommandRefused(ErrorNumber.EINVAL, str(violation)) from None  # E-IDXINIT
    network.set_stream_options(entry.system_socket)
    entry.connection = Connection(guest, entry.system_socket, entry.indexes_page, ends, entry.port)
    if guest.byte_rate is not None:
        entry.connection.pace(guest.byte_rate)
    entry.state = SocketState.CONNECTED  # IDX-1
    guest.sockets.add(entry)  # ACCEPT-8
    guest.attach(entry.port, entry.connection.on_event)
    entry.connection.start()


def _answer_pending(dispatcher: Dispatcher, _: PendingCommand, step: Any) -> None:
    for command in list(step.entry.waiting):
        dispatcher.refuse(
            command, CommandRefused(ErrorNumber.EBADF, "the socket was released")
        )  # E-ACC-REL, E-CONN-SYNC


def _drain_output(dispatcher: Dispatcher, command: PendingCommand, step: Any) -> Any:
    entry: SocketEntry = step.entry
    loop, connection = dispatcher.guest.loop, entry.connection
    assert connection is not None
    entry.state = SocketState.RELEASING

    began, sent_before = time.monotonic(), connection.bytes_out
    timer: Timer

    def go_on() -> None:
        timer.cancel()
        dispatcher.resume(command)

    def stop_waiting() -> None:
        timer.cancel()

    def on_timeout() -> None:
        nonlocal timer, sent_before
        is_slow_by_limit = dispatcher.guest.byte_rate is not None and connection.bytes_out > sent_before
        if is_slow_by_limit and time.monotonic() - began < LONGEST_DRAIN_SECONDS:
            sent_before = connection.bytes_out
            timer = loop.call_later(dispatcher.guest.limits.drain_seconds, on_timeout)
        else:
            go_on()

    timer = loop.call_later(dispatcher.guest.limits.drain_seconds, on_timeout)
    command.cancel = stop_waiting
    connection.drain(lambda: loop.call_soon(go_on))
    return WAITING


def _close_socket(dispatcher: Dispatcher, _: PendingCommand | None, step: Any) -> None:
    entry: SocketEntry = step.entry
    entry.state = SocketState.RELEASING
    dispatcher.guest.forget_listener(entry)
    entry.close_socket()


def _unmap_data_ring(_: Dispatcher, __: PendingCommand | None, step: Any) -> None:
    step.entry.unmap_data_ring()


def _unmap_indexes_page(_: Dispatcher, __: PendingCommand | None, step: Any) -> None:
    step.entry.unmap_indexes_page()


def _unbind_event_channel(dispatcher: Dispatcher, _: PendingCommand | None, step: Any) -> None:
    _unbind(dispatcher, step.entry)


def _unbind(dispatcher: Dispatcher, entry: SocketEntry) -> None:
    if entry.port is not None:
        dispatcher.guest.unbind(entry.port)
    entry.port = None


CARRY_OUT: dict[type, Callable[..., Any]] = {
    steps.ConnectSocket: _connect_socket,
    steps.MapIndexesPage: _map_indexes_page,
    steps.MapDataRing: _map_data_ring,
    steps.BindEventChannel: _bind_event_channel,
    steps.StartDataRing: _start_data_ring,
    steps.AnswerPending: _answer_pending,
    steps.DrainOutput: _drain_output,
    steps.CloseSocket: _close_socket,
    steps.UnmapDataRing: _unmap_data_ring,
    steps.UnmapIndexesPage: _unmap_indexes_page,
    steps.UnbindEventChannel: _unbind_event_channel,
}
