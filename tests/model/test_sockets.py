"""Sockets over a real frontend and backend against a model: a dictionary of states and queues of bytes.

Whatever order a program calls them in, each call has the result that POSIX and the errata give it, and every byte sent
is received once, in order, by the other end.
"""

from __future__ import annotations

import errno
import random
import socket as system_socket
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from refimpl.frontend import Socket, wait_readable
from refimpl.testing.pair import shm_pair

PATIENCE = 30.0
GUEST = st.integers(0, 1)
#: Which of the sockets there are: taken modulo their number.
PICK = st.integers(0, 2**16)


@dataclass(eq=False)
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

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._pair = self._stack.enter_context(shm_pair(guests=2, ring_order=1))
        self._models: dict[Socket, Model] = {}
        self._bytes = random.Random(1)

    def teardown(self) -> None:
        for socket in self._models:
            socket.close()
        self._stack.close()

    def _in_state(self, *states: str) -> list[Socket]:
        return [socket for socket, model in self._models.items() if model.state in states]

    def _pick(self, pick: int, *states: str) -> tuple[Socket, Model]:
        sockets = self._in_state(*states) if states else [s for s, m in self._models.items() if m.state != "reset"]
        socket = sockets[pick % len(sockets)]
        return socket, self._models[socket]

    def _add(self, socket: Socket, model: Model) -> Socket:
        socket.settimeout(PATIENCE)
        self._models[socket] = model
        return socket

    def _bind(self, socket: Socket) -> None:
        with system_socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address: tuple[str, int] = probe.getsockname()
        socket.bind(address)
        self._models[socket].state, self._models[socket].address = "bound", address

    # What programs do.

    @rule(guest=GUEST)
    def make(self, guest: int) -> None:
        self._add(self._pair.frontends[guest].socket(), Model())

    @rule(guest=GUEST)
    def serve(self, guest: int) -> None:
        socket = self._add(self._pair.frontends[guest].socket(), Model())
        self._bind(socket)
        socket.listen(16)
        self._models[socket].state = "listening"

    @precondition(lambda self: self._in_state("listening"))
    @rule(guest=GUEST, pick=PICK)
    def connect(self, guest: int, pick: int) -> None:
        _listener, theirs = self._pick(pick, "listening")
        if len(theirs.pending) < 8:
            mine = Model("connected")
            mine.peer = Model("queued", peer=mine)
            assert theirs.address is not None
            self._add(self._pair.frontends[guest].socket(), mine).connect(theirs.address)
            theirs.pending.append(mine.peer)

    @precondition(lambda self: any(self._models[s].pending for s in self._in_state("listening")))
    @rule(pick=PICK)
    def accept(self, pick: int) -> None:
        waiting = [s for s in self._in_state("listening") if self._models[s].pending]
        listener = waiting[pick % len(waiting)]
        assert wait_readable([listener], PATIENCE) == [listener]
        accepted, _ = listener.accept()
        model = self._models[listener].pending.popleft()
        model.state = "connected"
        self._add(accepted, model)

    @precondition(lambda self: self._in_state("connected"))
    @rule(pick=PICK, size=st.one_of(st.integers(1, 6000), st.sampled_from([1, 4095, 4096, 4097])))
    def send(self, pick: int, size: int) -> None:
        socket, model = self._pick(pick, "connected")
        assert model.peer is not None
        data = self._bytes.randbytes(size)
        if not model.peer_closed and len(model.peer.inbox) + len(data) < 20_000:
            socket.sendall(data)
            model.peer.inbox += data

    @precondition(lambda self: self._in_state("connected"))
    @rule(pick=PICK, limit=st.integers(1, 8000))
    def receive(self, pick: int, limit: int) -> None:
        socket, model = self._pick(pick, "connected")
        if model.inbox:
            assert wait_readable([socket], PATIENCE) == [socket]
            self._take(socket, model, limit)
        elif model.peer_closed:
            assert socket.recv(limit) == b""

    def _take(self, socket: Socket, model: Model, limit: int) -> None:
        received = socket.recv(limit)
        assert received
        assert bytes(model.inbox[: len(received)]) == received
        del model.inbox[: len(received)]

    @precondition(lambda self: self._models)
    @rule(pick=PICK)
    def close(self, pick: int) -> None:
        socket = list(self._models)[pick % len(self._models)]
        model = self._models.pop(socket)
        # Closing with bytes unread resets the connection, as POSIX has it; the model keeps to orderly ends.
        while model.state == "connected" and model.inbox:
            self._take(socket, model, 65536)
        socket.close()
        if model.state == "connected" and model.peer is not None:
            model.peer.peer_closed = True
        for waiting in model.pending:
            assert waiting.peer is not None
            waiting.peer.state = "reset"  # By the listener's end; the model says no more of it.
        model.state = "closed"

    # What they should not do, and what they get.

    @precondition(lambda self: self._in_state("created", "bound", "listening"))
    @rule(pick=PICK)
    def use_unconnected(self, pick: int) -> None:
        socket, _model = self._pick(pick, "created", "bound", "listening")
        for use in (lambda: socket.sendall(b"x"), lambda: socket.recv(1)):
            with pytest.raises(OSError) as failed:
                use()
            assert failed.value.errno == errno.ENOTCONN

    @precondition(lambda self: self._in_state("created", "bound", "connected"))
    @rule(pick=PICK)
    def accept_from_what_does_not_listen(self, pick: int) -> None:
        socket, _model = self._pick(pick, "created", "bound", "connected")
        with pytest.raises(OSError) as failed:
            socket.accept()
        assert failed.value.errno == errno.EINVAL

    @precondition(lambda self: self._in_state("created", "bound", "connected", "listening"))
    @rule(pick=PICK)
    def bind_and_listen(self, pick: int) -> None:
        socket, model = self._pick(pick, "created", "bound", "connected", "listening")
        if model.state == "created":
            with pytest.raises(OSError) as failed:
                socket.listen(1)
            assert failed.value.errno == errno.EINVAL
            self._bind(socket)
            return
        with pytest.raises(OSError) as failed:
            socket.bind(("127.0.0.1", 0))
        assert failed.value.errno == errno.EINVAL
        if model.state in ("bound", "listening"):
            socket.listen(16)
            model.state = "listening"

    @precondition(lambda self: self._in_state("connected", "listening"))
    @rule(pick=PICK)
    def connect_again(self, pick: int) -> None:
        socket, model = self._pick(pick, "connected", "listening")
        with pytest.raises(OSError) as failed:
            socket.connect(("127.0.0.1", 9))
        assert failed.value.errno == (errno.EISCONN if model.state == "connected" else errno.EOPNOTSUPP)

    @invariant()
    def both_devices_are_open(self) -> None:
        assert all(frontend.is_open for frontend in self._pair.frontends)


TestSockets = Sockets.TestCase
TestSockets.settings = settings(max_examples=30, stateful_step_count=50, deadline=None)
