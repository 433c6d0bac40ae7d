"""A backend and a guest that takes any steps in any order, an honest guest beside it; hypothesis makes them shorter.

What holds, whatever the guest does: the honest one has its bytes back after each step; each request has one response,
its own, as long as the ring's indexes were let alone; and of a guest that has died nothing is held.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from refimpl.backend import Settings
from refimpl.errors import RefimplError
from refimpl.shm import ShmPlatform
from refimpl.testing import HostileFrontend, raw
from refimpl.testing.attack import NODES
from refimpl.testing.echo import echo_server
from refimpl.testing.hostile import CLOSED, INITIALISING
from refimpl.testing.pair import Pair
from refimpl.testing.processes import POLICY

from .grounds import NUMBER, PATIENCE, SETTINGS, Grounds, await_equal

ID = st.integers(0, 4)
#: Which of the rings there are, taken modulo their number; or none of them.
RING = st.one_of(st.integers(0, 5), st.none())
ADDRESS = st.sampled_from(("echo", "nobody", "any", "garbage"))


class BackendGrounds(Grounds):
    """With a backend, an echo server and an honest guest."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack)
        self.echo = stack.enter_context(echo_server())
        self.honest = stack.enter_context(ShmPlatform.join(self.run, arena_pages=256))
        settings = Settings(policy=POLICY)
        pair = stack.enter_context(Pair(self.zero, self.honest, settings=settings, ring_order=1))
        self.connection = stack.enter_context(pair.frontend.create_connection(self.echo))
        self.connection.settimeout(PATIENCE)

    def exchange(self) -> None:
        """An honest message there and back."""
        self.connection.sendall(b"as if nothing was")
        taken = b""
        while len(taken) < 17:
            taken += self.connection.recv(64)
        assert taken == b"as if nothing was"


class AttackedBackend(RuleBasedStateMachine):
    """The guest's steps."""

    def __init__(self, grounds: BackendGrounds) -> None:
        super().__init__()
        self._grounds = grounds
        self._platform = grounds.new_guest()
        self._end = HostileFrontend(self._platform, patience=PATIENCE)
        self._end.connect()
        self._req_id = 0
        self._begin()

    def _begin(self) -> None:
        self._owed: dict[int, tuple[int, int]] = {}
        #: Nobody has written the ring's indexes or slots but by the protocol, nor our nodes.
        self._is_orderly = True

    def teardown(self) -> None:
        self._end.close()
        self._grounds.end_guest(self._platform)
        await_equal(self._grounds.before, self._grounds.held)  # type: ignore[attr-defined]

    def _ring(self, number: int | None) -> Any:
        rings = self._end.rings
        return rings[number % len(rings)] if number is not None and rings else None

    def _address(self, which: str, noise: bytes) -> bytes:
        places = {"echo": self._grounds.echo, "nobody": ("127.0.0.1", 1), "any": ("0.0.0.0", 0)}
        return raw.address(*places[which]) if which in places else noise

    @rule(
        cmd=st.integers(0, 8),
        ids=st.tuples(ID, ID),
        ring=RING,
        address=ADDRESS,
        noise=st.binary(min_size=28, max_size=28),
        numbers=st.tuples(NUMBER, NUMBER),
        notify=st.booleans(),
    )
    def ask(self, cmd: int, ids: Any, ring: int | None, address: str, noise: bytes, numbers: Any, notify: bool) -> None:
        if self._is_orderly and len(self._owed) >= raw.SLOTS:
            self.take()
            return
        data_ring = self._ring(ring)
        ref, port = numbers if data_ring is None else (data_ring.ref, data_ring.port)
        self._req_id += 1
        where = self._address(address, noise)
        slots = (
            raw.socket_request(self._req_id, ids[0]),
            raw.connect_request(self._req_id, ids[0], where, ref, port),
            raw.release_request(self._req_id, ids[0], numbers[0] & 1),
            raw.bind_request(self._req_id, ids[0], where),
            raw.listen_request(self._req_id, ids[0], numbers[0]),
            raw.accept_request(self._req_id, ids[0], ids[1], ref, port),
            raw.poll_request(self._req_id, ids[0]),
            raw.request(numbers[0], self._req_id, noise),
            raw.request(numbers[1] % 7, self._req_id, noise * 2),
        )
        slot = slots[cmd]
        asked = raw.RawRequest(slot)
        self._owed[asked.req_id] = (asked.cmd, asked.id)
        self._end.push(slot, notify=notify)

    @rule()
    def take(self) -> None:
        if not self._is_orderly:
            self._end.rsp_cons = self._end.commands["rsp_prod"]
            return
        for answer in self._end.take_responses():
            assert self._owed.pop(answer.req_id) == (answer.cmd, answer.id)
            assert -4095 <= answer.ret <= 0
            assert answer.pad == 0

    @precondition(lambda self: len(self._end.rings) < 6)
    @rule(order=st.sampled_from((1, 1, 2)), lie=st.one_of(st.none(), NUMBER), twice=st.booleans())
    def make_ring(self, order: int, lie: int | None, twice: bool) -> None:
        self._end.make_data_ring(
            order, ring_order=lie, refs=(lambda refs, own: refs[:1] * len(refs)) if twice else None
        )

    @rule(ring=RING, name=st.sampled_from((*raw.INDEXES_WORDS, "in_prod", "out_prod", "out_prod")), number=NUMBER)
    def write_index(self, ring: int | None, name: str, number: int) -> None:
        if (data_ring := self._ring(ring)) is not None:
            data_ring.indexes[name] = number
            self._end.notify(data_ring.port)

    @rule(ring=RING, name=st.sampled_from(("out_prod", "in_cons")), count=st.integers(0, 5000))
    def move_index(self, ring: int | None, name: str, count: int) -> None:
        if (data_ring := self._ring(ring)) is not None:
            data_ring.indexes[name] = data_ring.indexes[name] + count
            self._end.notify(data_ring.port)

    @rule(
        ring=RING, offset=st.integers(0, 1023), number=NUMBER, first=st.integers(0, 4000), data=st.binary(max_size=96)
    )
    def write_anywhere(self, ring: int | None, offset: int, number: int, first: int, data: bytes) -> None:
        if (data_ring := self._ring(ring)) is not None:
            data_ring.indexes.set_word(4 * offset, number)
            data_ring.data[first : first + len(data)] = data

    @rule(offset=st.one_of(st.integers(0, 3), st.integers(0, 1023)), number=NUMBER)
    def write_commands_page(self, offset: int, number: int) -> None:
        self._is_orderly = False
        self._end.commands.set_word(4 * offset, number)
        self._end.notify()

    @rule(count=st.integers(1, 200), ring=RING)
    def storm(self, count: int, ring: int | None) -> None:
        data_ring = self._ring(ring)
        for _ in range(count):
            self._end.notify(None if data_ring is None else data_ring.port)

    @rule(name=st.sampled_from(("state", "ring-ref", "port", "version")), value=st.sampled_from(NODES))
    def write_node(self, name: str, value: bytes) -> None:
        self._is_orderly = False
        self._end.write_node(name, value)

    @rule(name=st.sampled_from(("state", "ring-ref", "port")))
    def remove_node(self, name: str) -> None:
        self._is_orderly = False
        with suppress(RefimplError):
            self._end.remove_node(name)

    @rule(ring=RING)
    def end_ring(self, ring: int | None) -> None:
        if (data_ring := self._ring(ring)) is not None:
            self._end.rings.remove(data_ring)
            self._platform.close_port(data_ring.port)
            data_ring.release()

    @rule(states=st.lists(st.integers(0, 7), max_size=4))
    def come_again(self, states: list[int]) -> None:
        """Go through any states, then close in order and connect anew.

        The backend may be on its way through those states still, and close once more because of one: then again.
        """
        for state in states:
            self._end.set_state(state)
        for last_try in (False, False, False, True):
            self._end.set_state(CLOSED)
            self._end.await_state(CLOSED)
            self._end.close()
            self._end = HostileFrontend(self._platform, patience=PATIENCE if last_try else 3.0)
            self._end.set_state(INITIALISING)
            try:
                self._end.connect()
                break
            except AssertionError:
                if last_try:
                    raise
        self._end.patience = PATIENCE
        self._begin()

    @invariant()
    def honest_guest_is_served(self) -> None:
        self._grounds.exchange()


@pytest.fixture
def grounds() -> Iterator[BackendGrounds]:
    with ExitStack() as stack:
        yield BackendGrounds(stack)


@pytest.mark.timeout(3600)
@pytest.mark.security("SEC-B-1", "SEC-B-4", "SEC-B-9", "SEC-B-10", "SEC-B-11", "SEC-B-17", "SEC-B-19", "SEC-B-22")
def test_no_sequence_of_steps_breaks_a_backend(grounds: BackendGrounds) -> None:
    grounds.before = grounds.held()  # type: ignore[attr-defined]
    descriptors = len(os.listdir("/proc/self/fd"))
    run_state_machine_as_test(lambda: AttackedBackend(grounds), settings=SETTINGS)  # type: ignore[no-untyped-call]
    gc.collect()  # The guests that were here; their memory stays readable as long as somebody refers to it.
    # A dead peer is kept until the next is looked for, and the last connections may not have ended yet.
    await_equal(True, lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 8)
