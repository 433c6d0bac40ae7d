"""Sockets over a real frontend and backend against a model: a dictionary of states and queues of bytes.

Whatever order a program calls them in, each call has the result that POSIX and the errata give it, and every byte sent
is received once, in order, by the other end.
"""

from __future__ import annotations

import errno
import socket as system_socket
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from refimpl.frontend import Socket, wait_readable
from refimpl.testing.pair import shm_pair

PATIENCE = 30.0


@dataclass
class Model:
    """What a socket is in the model."""

    state: str = "created"
    address: tuple[str, int] | None = None
    pending: deque[Model] = field(default_factory=deque)
    #: Bytes on their way to this socket, and whether its peer has ended.
    inbox: bytearray = field(default_factory=bytearray)
    peer: Model | None = None
    peer_closed: bool = False


class Sockets(RuleBasedStateMachine):
    """A program with sockets of two guests on one backend."""

    sockets = Bundle("sockets")

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._pair = self._stack.enter_context(shm_pair(guests=2, ring_order=1))
        self._models: dict[Socket, Model] = {}

    def teardown(self) -> None:
        for socket in list(self._models):
            socket.close()
        self._stack.close()

    def _add(self, socket: Socket, model: Model) -> Socket:
        socket.settimeout(PATIENCE)
        self._models[socket] = model
        return socket

    @rule(target=sockets, guest=st.integers(0, 1))
    def make(self, guest: int) -> Socket:
        return self._add(self._pair.frontends[guest].socket(), Model())

    @rule(socket=sockets)
    def bind(self, socket: Socket) -> None:
        model = self._models[socket]
        if model.state == "created":
            address = _free_address()
            socket.bind(address)
            model.state, model.address = "bound", address
        else:
            with pytest.raises(OSError) as failed:
                socket.bind(("127.0.0.1", 0))
            assert failed.value.errno == errno.EINVAL

    @rule(socket=sockets)
    def listen(self, socket: Socket) -> None:
        model = self._models[socket]
        if model.state in ("bound", "listening"):
            socket.listen(16)
            model.state = "listening"
        else:
            with pytest.raises(OSError) as failed:
                socket.listen(16)
            assert failed.value.errno == errno.EINVAL

    @rule(socket=sockets, to=sockets)
    def connect(self, socket: Socket, to: Socket) -> None:
        mine, theirs = self._models[socket], self._models[to]
        address = theirs.address or ("127.0.0.1", 9)
        if mine.state in ("created", "bound") and theirs.state == "listening" and len(theirs.pending) < 8:
            socket.connect(address)
            other = Model("queued", peer=mine)
            mine.state, mine.peer = "connected", other
            theirs.pending.append(other)
        elif mine.state == "connected":
            with pytest.raises(OSError) as failed:
                socket.connect(address)
            assert failed.value.errno == errno.EISCONN
        elif mine.state == "listening":
            with pytest.raises(OSError) as failed:
                socket.connect(address)
            assert failed.value.errno == errno.EOPNOTSUPP

    @rule(target=sockets, listener=sockets)
    def accept(self, listener: Socket) -> object:
        model = self._models[listener]
        if model.state != "listening":
            with pytest.raises(OSError) as failed:
                listener.accept()
            assert failed.value.errno == errno.EINVAL
            return multiple()
        if not model.pending:
            return multiple()
        accepted, _ = listener.accept()
        other = model.pending.popleft()
        other.state = "connected"
        return self._add(accepted, other)

    @rule(socket=sockets, data=st.binary(min_size=1, max_size=6000))
    def send(self, socket: Socket, data: bytes) -> None:
        model = self._models[socket]
        if model.state != "connected":
            with pytest.raises(OSError) as failed:
                socket.sendall(data)
            assert failed.value.errno == errno.ENOTCONN
        elif not model.peer_closed and model.peer is not None and len(model.peer.inbox) + len(data) < 20_000:
            socket.sendall(data)
            model.peer.inbox += data

    @rule(socket=sockets, limit=st.integers(1, 8000))
    def receive(self, socket: Socket, limit: int) -> None:
        model = self._models[socket]
        if model.state != "connected":
            with pytest.raises(OSError) as failed:
                socket.recv(limit)
            assert failed.value.errno == errno.ENOTCONN
        elif model.inbox:
            received = socket.recv(limit)
            assert received
            assert bytes(model.inbox[: len(received)]) == received
            del model.inbox[: len(received)]
        elif model.peer_closed:
            assert socket.recv(limit) == b""

    @rule(socket=consumes(sockets))
    def close(self, socket: Socket) -> None:
        model = self._models[socket]
        # Closing with bytes unread resets the connection, as POSIX has it; the model keeps to orderly ends.
        while model.state == "connected" and model.inbox:
            received = socket.recv(65536)
            assert bytes(model.inbox[: len(received)]) == received
            del model.inbox[: len(received)]
        socket.close()
        del self._models[socket]
        if model.state == "connected" and model.peer is not None:
            model.peer.peer_closed = True
        for waiting in model.pending:  # Reset by the listener's end: the model says no more about them.
            assert waiting.peer is not None
            waiting.peer.state = "reset"
        model.state = "closed"

    @rule(socket=sockets)
    def poll(self, socket: Socket) -> None:
        model = self._models[socket]
        has_input = model.state == "connected" and (model.inbox or model.peer_closed)
        if has_input or (model.state == "listening" and model.pending):
            assert wait_readable([socket], PATIENCE) == [socket]

    @invariant()
    def both_devices_are_open(self) -> None:
        assert all(frontend.is_open for frontend in self._pair.frontends)


def _free_address() -> tuple[str, int]:
    with system_socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address: tuple[str, int] = probe.getsockname()
        return address


TestSockets = Sockets.TestCase
TestSockets.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
