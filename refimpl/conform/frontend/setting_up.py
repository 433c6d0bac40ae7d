"""Rationale; Xenstore; Frontend XenBus Nodes; State Machine: what a frontend does before and after all its calls."""

from __future__ import annotations

from refimpl.conform.frontend.observed import Observed
from refimpl.conform.frontend.services import GENERATED_BYTES, GREETING, KNOCK
from refimpl.conform.probes import Differs, NotObservable, Probes, expect, require
from refimpl.testing.hostile import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED

probe = Probes()


def number_in(observed: Observed, name: str) -> int:
    """Return a node of the frontend's that is a decimal number of 32 bits. Raises Failed."""
    text = (observed.nodes[name] or b"").decode("latin-1")
    require(text.isascii() and text.isdigit() and int(text) < 2**32, f"{name} is {text!r}, no unsigned 32-bit number")
    return int(text)


@probe("RAT-1")
def calls_come_to_what_the_backend_answered(observed: Observed) -> None:
    """Each call of the driver's came to what was answered: bytes, the end, an error, a refusal."""
    if not observed.told:
        raise NotObservable("no driver told what its calls came to")
    wanted = {
        "refused": {"ConnectionRefusedError 111"},
        "echo": {"equal"},
        "end": {(GREETING.decode(), "", "")},
        "generate": {(GENERATED_BYTES, True)},
        "listen": {tuple([f"{KNOCK.decode()}who is there"] * 2)},
        "many": {True},
    }
    for name, allowed in wanted.items():
        if name in observed.told:
            seen = observed.told[name]
            expect(f"what the driver's {name!r} came to", tuple(seen) if isinstance(seen, list) else seen, allowed)
    require(not observed.garbled, "; ".join(observed.garbled))


@probe("XS-1", "XS-3")
def the_frontend_is_found_in_xenstore(observed: Observed) -> None:
    """What the backend needs stands in the frontend's directory, .../device/pvcalls/DEVICE."""
    missing = [name for name, value in observed.nodes.items() if value is None]
    require(
        not missing, f"there is no {', '.join(missing)}", under="E-VERSION-CHECK" if missing == ["version"] else None
    )


@probe("FNODE-1", "FNODE-2", "BNODE-2")
def the_version_is_1(observed: Observed) -> None:
    """`version` is "1", out of the backend's `versions`."""
    version = observed.nodes["version"]
    if version is None:
        raise Differs("E-VERSION-CHECK", "there is no node version")
    expect("version", version, b"1")


@probe("FNODE-3")
def port_is_a_number(observed: Observed) -> None:
    """`port` is an unsigned 32-bit number, and could be bound."""
    number_in(observed, "port")
    observed.check("FNODE-4")


@probe("FNODE-4", "FNODE-5", "RING-2")
def ring_ref_is_one_grant(observed: Observed) -> None:
    """`ring-ref` is an unsigned 32-bit number: the grant of one page, writable."""
    number_in(observed, "ring-ref")
    observed.check("FNODE-4")


@probe("STATE-3")
def initialised_comes_next_and_last(observed: Observed) -> None:
    """The frontend goes straight to Initialised, its nodes written before; it is never InitWait."""
    expect("whether it was InitWait", INIT_WAIT in observed.states, False)
    before = observed.states[: observed.states.index(INITIALISED)]
    require(CONNECTED not in before[-1:], "it was Connected before it was Initialised")
    words = observed.ring_words
    if not words:
        raise NotObservable("its ring could not be looked at")
    expect("rsp_prod of the new ring", words["rsp_prod"], 0)
    expect("req_event and rsp_event of the new ring", (words["req_event"], words["rsp_event"]), (1, 1))


@probe("STATE-4")
def the_nodes_stay(observed: Observed) -> None:
    """What was published holds for the whole connection."""
    expect("its nodes at the end", observed.nodes_at_end, observed.nodes)


@probe("STATE-6")
def connected_answers_connected(observed: Observed) -> None:
    """The frontend goes to Connected when the backend has, and not before."""
    if observed.state_at_connected is None:
        raise NotObservable("what it published could not be used")
    after = observed.states[observed.states.index(INITIALISED) + 1 :]
    require(after[:1] == [CONNECTED], f"after Initialised its states were {after}")


@probe("STATE-7", "RING-1")
def requests_come_on_the_page_that_was_published(observed: Observed) -> None:
    """Requests are in the published page's slots in turn, never more at once than there are slots."""
    if not observed.requests:
        raise NotObservable("no program made a call")
    observed.check("RING-1")
    expect(
        "the slots' indexes", [each.index for each in observed.requests] == list(range(len(observed.requests))), True
    )


@probe("STATE-8")
def the_frontend_starts_a_shutdown(observed: Observed) -> None:
    """A shutdown of the frontend's own goes from Connected to Closing."""
    if observed.answered_our_closing is not None or CONNECTED not in observed.states:
        raise NotObservable("it did not shut down by itself")
    after = observed.states[observed.states.index(CONNECTED) + 1 :]
    if after[:1] == [CLOSED]:
        raise Differs("E-FASTCLOSE", "it goes from Connected to Closed at once")
    require(after[:1] == [CLOSING], f"after Connected its states were {after}")


@probe("STATE-10")
def closing_is_answered_closed(observed: Observed) -> None:
    """When the backend is Closing the frontend goes to Closed."""
    expect("its last state", observed.states[-1], {CLOSED, 1})
