"""State Machine."""

from __future__ import annotations

from refimpl.conform.backend.guest import Guest
from refimpl.conform.probes import Differs, Probes, expect, require
from refimpl.testing import raw
from refimpl.testing.hostile import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED

probe = Probes()


@probe("STATE-5")
def the_backend_connects_when_the_frontend_is_initialised(guest: Guest) -> None:
    """At the frontend's Initialised, and not before, the backend goes to Connected; it is never Initialised itself."""
    guest.disconnect()
    guest.start_anew()
    front = guest.front
    for name, value in (("version", b"1"), ("ring-ref", front.ring_ref), ("port", front.port)):
        front.write_node(name, value)
        expect(f"the backend's state after {name} was written", front.other_node("state"), b"%d" % INIT_WAIT)
    front.set_state(INITIALISED)
    expect("the backend's next state", front.await_state(INITIALISED, CONNECTED, CLOSING), CONNECTED)
    front.set_state(CONNECTED)
    guest.socket()


@probe("STATE-7")
def one_page_and_one_event_channel_carry_the_commands(guest: Guest) -> None:
    """The page and the event channel that were published are the ones in use: answered, and notified, there."""
    guest.quiet()
    guest.front.commands["rsp_event"] = guest.front.rsp_cons + 1
    before = guest.front.commands["rsp_prod"]
    req_id = guest.push(raw.release_request, guest.number())
    require(guest.hears(guest.front.port), "no event came on the port that was published")
    expect("rsp_prod on the page that was published", guest.front.commands["rsp_prod"], (before + 1) % 2**32)
    guest.answer(req_id)


@probe("STATE-9")
def closing_unbinds_and_answers_closing(guest: Guest) -> None:
    """At the frontend's Closing the backend unbinds the event channels, then is Closing: the ports are free again."""
    ring = guest.ring()
    guest.active(guest.listener().port_number, ring)
    guest.front.set_state(CLOSING)
    answered = guest.front.await_state(CLOSING, CLOSED)
    if answered == CLOSED:
        raise Differs("E-FASTCLOSE", "the backend goes to Closed at once")
    # The same ports anew: Xen lets no port be bound twice.
    guest.begin_again()
    guest.connect()
    guest.active(guest.listener().port_number, ring)


@probe("STATE-11")
def closed_is_answered_closed(guest: Guest) -> None:
    """At the frontend's Closed the backend is Closed; at its Initialising it is InitWait, for a new connection."""
    guest.front.set_state(CLOSING)
    guest.front.await_state(CLOSING)
    guest.front.set_state(CLOSED)
    guest.front.await_state(CLOSED)
    guest.drop()
    guest.connect()
    guest.socket()


@probe("STATE-12", "CONNECT-12")
def closing_takes_active_sockets_down(guest: Guest) -> None:
    """At the frontend's Closing the backend closes its sockets with no RELEASE: the address can be bound anew."""
    stream = guest.stream()
    number = stream.listener.port_number
    guest.disconnect()
    guest.connect()
    nobody = guest.connect_to(number)
    require(nobody < 0, f"a listener of the connection before still takes connections: CONNECT is {nobody}")
