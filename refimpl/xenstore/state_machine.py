"""Section *State Machine*: the two ends' XenBus states, as two tables.

Each table maps (own state, peer's state) to the actions to carry out, in order. Who looks it up re-reads the peer's
state at each watch event, carries the actions out, and looks again until there is nothing to do: events may be merged,
so only what the states *are* counts, never which change was seen.

    frontend   Initialising ------------------> Initialised --> Connected --> Closing --> Closed
    backend    Initialising --> InitWait ---------------------> Connected --> Closing --> Closed

A peer whose directory vanished, or that cannot be read, is Closed (erratum E-FASTCLOSE). A backwards move of the peer
is a close too. After both are Closed a frontend that goes to Initialising starts anew (E-RECONNECT).

Spec: Xenstore > State Machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum

from refimpl.errors import PeerViolation
from refimpl.xenstore.values import parse_uint32


class XenbusState(IntEnum):
    """The value of a ``state`` node."""

    UNKNOWN = 0
    INITIALISING = 1
    INIT_WAIT = 2
    INITIALISED = 3
    CONNECTED = 4
    CLOSING = 5
    CLOSED = 6
    RECONFIGURING = 7
    RECONFIGURED = 8


class Action(Enum):
    """What an end does; ``GO_*`` write the end's own ``state`` node."""

    PUBLISH = "publish the nodes"
    GO_INIT_WAIT = "go to InitWait"
    GO_INITIALISED = "go to Initialised"
    CONNECT = "take the peer's nodes and connect to them"
    GO_CONNECTED = "go to Connected"
    DISCONNECT = "unmap all grants, unbind all event channels, close all sockets"
    GO_CLOSING = "go to Closing"
    FREE = "unbind event channels, free rings and data"
    GO_CLOSED = "go to Closed"

    @property
    def next_state(self) -> XenbusState | None:
        """The state a ``GO_*`` action leads to, None for the others."""
        return _STATE_OF.get(self)


_STATE_OF = {
    Action.GO_INIT_WAIT: XenbusState.INIT_WAIT,
    Action.GO_INITIALISED: XenbusState.INITIALISED,
    Action.GO_CONNECTED: XenbusState.CONNECTED,
    Action.GO_CLOSING: XenbusState.CLOSING,
    Action.GO_CLOSED: XenbusState.CLOSED,
}

Actions = tuple[Action, ...]
Table = Mapping[tuple[XenbusState, XenbusState], Actions]

_S = XenbusState
_START_BACKEND = (Action.PUBLISH, Action.GO_INIT_WAIT)  # STATE-2, BNODE-8
_END_BACKEND = (Action.DISCONNECT, Action.GO_CLOSING)  # STATE-9
_END_BOTH = (*_END_BACKEND, Action.GO_CLOSED)
_FREE_FRONTEND = (Action.FREE, Action.GO_CLOSED)  # STATE-10

#: Backend: (own, frontend's) -> actions.
BACKEND: Table = {
    (_S.INITIALISING, _S.INITIALISING): _START_BACKEND,
    (_S.INITIALISING, _S.INITIALISED): _START_BACKEND,
    (_S.INITIALISING, _S.CONNECTED): _START_BACKEND,
    (_S.INITIALISING, _S.CLOSING): (Action.GO_CLOSING,),
    (_S.INITIALISING, _S.CLOSED): (Action.GO_CLOSING, Action.GO_CLOSED),
    (_S.INIT_WAIT, _S.INITIALISED): (Action.CONNECT, Action.GO_CONNECTED),  # STATE-5
    (_S.INIT_WAIT, _S.CONNECTED): (Action.GO_CLOSING,),  # E-BCLOSE: connected to a backend that is no more
    (_S.INIT_WAIT, _S.CLOSING): (Action.GO_CLOSING,),
    (_S.INIT_WAIT, _S.CLOSED): (Action.GO_CLOSING, Action.GO_CLOSED),  # E-FASTCLOSE
    (_S.CONNECTED, _S.CLOSING): _END_BACKEND,  # STATE-9, STATE-12
    (_S.CONNECTED, _S.CLOSED): _END_BOTH,  # STATE-12 (E-FASTCLOSE)
    (_S.CONNECTED, _S.INITIALISING): (*_END_BOTH, *_START_BACKEND),  # STATE-12 (E-RECONNECT)
    (_S.CLOSING, _S.CLOSED): (Action.GO_CLOSED,),  # STATE-11
    (_S.CLOSING, _S.INITIALISING): (Action.GO_CLOSED, *_START_BACKEND),  # E-RECONNECT
    (_S.CLOSED, _S.INITIALISING): _START_BACKEND,  # E-RECONNECT
}

#: Frontend: (own, backend's) -> actions.
FRONTEND: Table = {
    (_S.INITIALISING, _S.INIT_WAIT): (Action.PUBLISH, Action.GO_INITIALISED),  # STATE-3 (E-PROBE-RACE)
    (_S.INITIALISED, _S.CONNECTED): (Action.CONNECT, Action.GO_CONNECTED),  # STATE-6
    (_S.INITIALISED, _S.CLOSING): _FREE_FRONTEND,  # E-BCLOSE
    (_S.INITIALISED, _S.CLOSED): _FREE_FRONTEND,  # E-BCLOSE
    (_S.CONNECTED, _S.CLOSING): _FREE_FRONTEND,  # E-BCLOSE
    (_S.CONNECTED, _S.CLOSED): _FREE_FRONTEND,  # E-BCLOSE
    (_S.CONNECTED, _S.INITIALISING): _FREE_FRONTEND,  # SEC-F-14: a backwards move is a close
    (_S.CONNECTED, _S.INIT_WAIT): _FREE_FRONTEND,  # SEC-F-14
    (_S.CONNECTED, _S.INITIALISED): _FREE_FRONTEND,  # SEC-F-14
    (_S.CLOSING, _S.CLOSING): _FREE_FRONTEND,  # STATE-10
    (_S.CLOSING, _S.CLOSED): _FREE_FRONTEND,  # STATE-10
    (_S.CLOSING, _S.INITIALISING): _FREE_FRONTEND,  # SEC-F-14
    (_S.CLOSING, _S.INIT_WAIT): _FREE_FRONTEND,  # SEC-F-14
    (_S.CLOSING, _S.INITIALISED): _FREE_FRONTEND,  # SEC-F-14
}

#: How a frontend starts a shutdown.
FRONTEND_SHUTDOWN: Actions = (Action.GO_CLOSING,)  # STATE-8


def actions(table: Table, own: XenbusState, peer: XenbusState) -> Actions:
    """Return what to do now; nothing where the table has no such row."""
    return table.get((own, peer), ())


def parse_state(raw: bytes | None, *, peer: int | None = None) -> XenbusState:
    """Return the state a peer's node says; a node that is not there is Closed (erratum E-FASTCLOSE).

    Raises PeerViolation for what is no state of this protocol.
    """
    if raw is None:
        return XenbusState.CLOSED
    value = parse_uint32("STATE-1", "state", raw, peer=peer)
    if not XenbusState.INITIALISING <= value <= XenbusState.CLOSED:  # SEC-B-17
        raise PeerViolation("STATE-1", "state", value, "1 to 6", peer)
    return XenbusState(value)


def format_state(state: XenbusState) -> bytes:
    """Return the value to write to a ``state`` node."""
    return str(int(state)).encode()
