"""The two state machines, played against each other by their tables."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import PeerViolation
from refimpl.xenstore.state_machine import (
    BACKEND,
    FRONTEND,
    FRONTEND_SHUTDOWN,
    Action,
    XenbusState,
    actions,
    format_state,
    parse_state,
)

S = XenbusState


class Pair:
    """A frontend and a backend that do what their tables say, and remember it."""

    def __init__(self, frontend: XenbusState = S.INITIALISING, backend: XenbusState = S.INITIALISING) -> None:
        self.frontend, self.backend = frontend, backend
        self.trace: list[tuple[str, Action]] = []

    def step(self, side: str) -> bool:
        table, own, peer = (
            (BACKEND, self.backend, self.frontend) if side == "B" else (FRONTEND, self.frontend, self.backend)
        )
        due = actions(table, own, peer)
        for action in due:
            self.do(side, action)
        return bool(due)

    def do(self, side: str, action: Action) -> None:
        self.trace.append((side, action))
        if action.next_state is not None:
            setattr(self, "backend" if side == "B" else "frontend", action.next_state)

    def settle(self, order: random.Random | None = None) -> None:
        for _ in range(100):
            sides = ["B", "F"]
            if order is not None:
                order.shuffle(sides)
            if not (self.step(sides[0]) | self.step(sides[1])):
                return
        raise AssertionError(f"never settles: {self.trace[-6:]}")

    @property
    def states(self) -> tuple[XenbusState, XenbusState]:
        return self.frontend, self.backend


@pytest.mark.spec("STATE-2", "STATE-3", "STATE-5", "STATE-6")
@given(st.randoms(use_true_random=False))
def test_the_start_takes_the_documents_path_whoever_looks_first(order: random.Random) -> None:
    pair = Pair()
    pair.settle(order)
    assert pair.trace == [
        ("B", Action.PUBLISH), ("B", Action.GO_INIT_WAIT),
        ("F", Action.PUBLISH), ("F", Action.GO_INITIALISED),
        ("B", Action.CONNECT), ("B", Action.GO_CONNECTED),
        ("F", Action.CONNECT), ("F", Action.GO_CONNECTED),
    ]  # fmt: skip
    assert pair.states == (S.CONNECTED, S.CONNECTED)


@pytest.mark.spec("STATE-8", "STATE-9", "STATE-10", "STATE-11")
@given(st.randoms(use_true_random=False))
def test_the_shutdown_takes_the_documents_path(order: random.Random) -> None:
    pair = Pair(S.CONNECTED, S.CONNECTED)
    for action in FRONTEND_SHUTDOWN:
        pair.do("F", action)
    pair.settle(order)
    assert pair.trace == [
        ("F", Action.GO_CLOSING),
        ("B", Action.DISCONNECT), ("B", Action.GO_CLOSING),
        ("F", Action.FREE), ("F", Action.GO_CLOSED),
        ("B", Action.GO_CLOSED),
    ]  # fmt: skip


@pytest.mark.spec("STATE-12")
@pytest.mark.erratum("E-FASTCLOSE")
def test_a_frontend_that_vanishes_is_let_go_of_on_the_way_to_closed() -> None:
    pair = Pair(S.CLOSED, S.CONNECTED)
    pair.settle()
    assert pair.trace == [("B", Action.DISCONNECT), ("B", Action.GO_CLOSING), ("B", Action.GO_CLOSED)]


@pytest.mark.erratum("E-BCLOSE")
@pytest.mark.parametrize("own", [S.INITIALISED, S.CONNECTED])
@pytest.mark.parametrize("backend", [S.CLOSING, S.CLOSED])
def test_a_backend_may_close_at_any_time(own: XenbusState, backend: XenbusState) -> None:
    pair = Pair(own, backend)
    pair.settle()
    assert pair.trace[:2] == [("F", Action.FREE), ("F", Action.GO_CLOSED)]
    assert pair.states == (S.CLOSED, S.CLOSED)


@pytest.mark.security("SEC-F-14")
@pytest.mark.parametrize("own", [S.CONNECTED, S.CLOSING])
@pytest.mark.parametrize("backwards", [S.INITIALISING, S.INIT_WAIT, S.INITIALISED])
def test_a_backwards_move_of_the_backend_is_a_close(own: XenbusState, backwards: XenbusState) -> None:
    assert actions(FRONTEND, own, backwards) == (Action.FREE, Action.GO_CLOSED)


@pytest.mark.spec("STATE-10")
@pytest.mark.erratum("E-BCLOSE")
@pytest.mark.parametrize("backend", [S.CLOSING, S.CLOSED])
def test_a_frontend_that_closes_frees_all_once_the_backend_has_let_go(backend: XenbusState) -> None:
    pair = Pair(S.CLOSING, backend)
    pair.settle()
    assert pair.trace[:2] == [("F", Action.FREE), ("F", Action.GO_CLOSED)]
    assert pair.states == (S.CLOSED, S.CLOSED)


@pytest.mark.spec("STATE-12")
@pytest.mark.erratum("E-RECONNECT")
@pytest.mark.parametrize("backend", [S.CLOSED, S.CLOSING, S.CONNECTED])
def test_a_frontend_that_starts_anew_is_served_anew(backend: XenbusState) -> None:
    pair = Pair(S.INITIALISING, backend)
    pair.settle()
    assert pair.states == (S.CONNECTED, S.CONNECTED)
    backend_did = [action for side, action in pair.trace if side == "B"]
    assert (Action.DISCONNECT in backend_did) is (backend is S.CONNECTED)
    assert backend_did[-4:] == [Action.PUBLISH, Action.GO_INIT_WAIT, Action.CONNECT, Action.GO_CONNECTED]


@given(st.sampled_from(list(S)), st.sampled_from(list(S)), st.randoms(use_true_random=False))
def test_from_any_two_states_the_ends_come_to_rest(frontend: XenbusState, backend: XenbusState, order) -> None:
    Pair(frontend, backend).settle(order)


@pytest.mark.spec("STATE-9")
@given(st.sampled_from(list(S)))
def test_a_backend_never_leaves_connected_without_letting_go(frontend: XenbusState) -> None:
    due = actions(BACKEND, S.CONNECTED, frontend)
    if due:
        assert due[0] is Action.DISCONNECT


@pytest.mark.erratum("E-FASTCLOSE")
def test_a_state_that_is_not_there_is_closed() -> None:
    assert parse_state(None) is S.CLOSED


@pytest.mark.spec("STATE-1")
@pytest.mark.parametrize("state", list(S)[1:7])
def test_states_survive_the_way_through_xenstore(state: XenbusState) -> None:
    assert parse_state(format_state(state)) is state


@pytest.mark.security("SEC-B-17")
@pytest.mark.parametrize("raw", [b"0", b"7", b"8", b"9", b"", b"x", b"4 ", b"-1", b"4294967295"])
def test_what_is_no_state_of_this_protocol_is_a_violation(raw: bytes) -> None:
    with pytest.raises(PeerViolation) as violation:
        parse_state(raw, peer=4)
    assert violation.value.peer == 4
