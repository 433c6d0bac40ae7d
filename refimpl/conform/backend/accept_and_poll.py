"""Accept; Poll."""

from __future__ import annotations

from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.numbers import EBADF, EEXIST, EINVAL, ERRORS
from refimpl.conform.probes import Differs, Probes, expect, require
from refimpl.testing import raw

probe = Probes()


@probe("ACCEPT-1")
def connections_are_accepted_first_come_first_served(guest: Guest) -> None:
    """ACCEPT takes the connection that has waited longest."""
    listener = guest.listener()
    for word in (b"first", b"then "):
        guest.active(listener.port_number).send(word)
    for word in (b"first", b"then "):
        expect("what the next accepted socket receives", listener.accept().receive(5), word)


@probe("ACCEPT-6", "ACCEPT-7")
def accept_waits_for_a_connection(guest: Guest) -> None:
    """ACCEPT is not answered, with EAGAIN neither, until there is a connection; then it is, and with an event."""
    listener = guest.listener()
    req_id = listener.start_accept()
    if guest.is_answered(req_id):
        expect("what ACCEPT is answered with nobody there", listener.end_accept(req_id)[0], "nothing yet")
    near = guest.active(listener.port_number)
    ret, far = listener.end_accept(req_id)
    expect("ret", ret, 0)
    near.send(b"late")
    expect("what is received", far.receive(4), b"late")


@probe("ACCEPT-6")
def accepts_of_one_listener_queue_up(guest: Guest) -> None:
    """Two ACCEPTs of one listener both wait, and each gets a connection."""
    listener = guest.listener()
    waiting = [listener.start_accept() for _ in range(2)]
    if guest.is_answered(waiting[1]):
        ret, _ = listener.end_accept(waiting[1])
        raise Differs("E-ACC-CONC", f"a second ACCEPT of one listener is answered {ret}, not kept")
    for req_id in waiting:
        guest.active(listener.port_number)
        expect("ret", listener.end_accept(req_id)[0], 0)


@probe("ACCEPT-8")
def the_new_socket_is_known_by_id_new(guest: Guest) -> None:
    """The accepted socket is named id_new: its RELEASE ends the connection, and the listener goes on."""
    stream = guest.stream()
    stream.far.release()
    stream.near.await_error("in")
    guest.active(stream.listener.port_number)
    stream.listener.accept()


@probe("ACCEPT-8")
def an_id_new_in_use_is_refused(guest: Guest) -> None:
    """ACCEPT with an id_new that has a socket is EEXIST, without waiting."""
    listener, taken = guest.listener(), guest.socket()
    req_id = listener.start_accept(id_new=taken)
    if not guest.is_answered(req_id):
        raise Differs("E-DUPID", "ACCEPT with an id_new in use waits for a connection")
    expect("ret", listener.end_accept(req_id)[0], EEXIST, under="E-DUPID")


@probe("ACCEPT-9", "ACCEPT-10", "ACCEPT-11", "ACCEPT-12")
def the_response_completes_the_accept(guest: Guest) -> None:
    """With the response the page and the ring are mapped and the port is bound: bytes and events come at once."""
    listener = guest.listener()
    near = guest.active(listener.port_number)
    near.send(b"before")
    near.await_sent()
    far = listener.accept()
    expect("what was sent before ACCEPT", far.receive(6), b"before")
    guest.quiet()
    near.send(b"after")
    require(guest.hears(far.ring.port), "no event came on the port of ACCEPT")
    expect("what was sent after it", far.receive(5), b"after")


@probe("ACCEPT-14")
def the_response_carries_the_listeners_id(guest: Guest) -> None:
    """The id in ACCEPT's response is the listening socket's, not id_new."""
    listener = guest.listener()
    guest.active(listener.port_number)
    ring, id_new = guest.ring(), guest.number()
    answer = guest.ask(raw.accept_request, listener.id, id_new, ring.ref, ring.port)
    expect("the id in ACCEPT's response", answer.id, listener.id)
    guest.ask(raw.release_request, id_new)


@probe("ACCEPT-15")
def an_unknown_id_cannot_accept(guest: Guest) -> None:
    """ACCEPT of an id that has no socket is EBADF."""
    ring = guest.ring()
    ret = guest.ask(raw.accept_request, guest.number(), guest.number(), ring.ref, ring.port).ret
    require(ret in ERRORS, f"ret of ACCEPT of an unknown id is {ret}")
    expect("ret of ACCEPT of an unknown id", ret, EBADF, under="E-UNKNOWN-ID")


@probe("POLL-3")
def poll_waits_for_a_connection(guest: Guest) -> None:
    """POLL is not answered until a connection waits; then it is, with an event, and the connection still waits."""
    listener = guest.listener()
    req_id = listener.poll()
    require(not guest.is_answered(req_id), "POLL is answered with no connection there")
    guest.active(listener.port_number)
    expect("ret", guest.answer(req_id).ret, 0)
    listener.accept()


@probe("POLL-3")
def poll_is_by_level(guest: Guest) -> None:
    """POLL is answered at once, as often as it is asked, while a connection waits."""
    listener = guest.listener()
    guest.active(listener.port_number)
    for _ in range(3):
        expect("ret", guest.answer(listener.poll()).ret, 0, under="E-POLL-SEM")


@probe("POLL-3")
def poll_and_accept_may_wait_together(guest: Guest) -> None:
    """With an ACCEPT waiting, POLL waits for a connection after the one that ACCEPT takes."""
    listener = guest.listener()
    accepting, polled = listener.start_accept(), listener.poll()
    if guest.is_answered(polled):
        raise Differs("E-POLL-ACC", f"POLL beside an ACCEPT is answered {guest.answer(polled).ret}")
    guest.active(listener.port_number)
    expect("ret of ACCEPT", listener.end_accept(accepting)[0], 0)
    require(not guest.is_answered(polled), "POLL is answered for the connection that ACCEPT took", under="E-POLL-ACC")
    guest.active(listener.port_number)
    expect("ret of POLL", guest.answer(polled).ret, 0, under="E-POLL-ACC")


@probe("POLL-5")
def polls_response_carries_the_id(guest: Guest) -> None:
    """POLL's response carries the listener's id, bit for bit: in Linux's guests it is a pointer."""
    id = guest.socket(0xFFFF_8880_FEDC_BA98)
    for number in range(32_000, 33_000):
        if guest.ask(raw.bind_request, id, guest.address(number)).ret == 0:
            break
    guest.ask(raw.listen_request, id)
    guest.active(number)
    expect("the id in POLL's response", guest.ask(raw.poll_request, id).id, id)


@probe("POLL-6")
def ret_is_no_mask(guest: Guest) -> None:
    """A POLL that finds a connection is answered 0, not a mask of events."""
    listener = guest.listener()
    guest.active(listener.port_number)
    expect("ret", guest.answer(listener.poll()).ret, 0)


@probe("POLL-6")
def what_cannot_be_polled_is_answered(guest: Guest) -> None:
    """POLL of an unknown id is EBADF; of a socket that does not listen, EINVAL. Never is there no answer."""
    near = guest.active(guest.listener().port_number)
    cases = (
        ("an unknown id", guest.number(), EBADF, "E-UNKNOWN-ID"),
        ("a connected socket", near.id, EINVAL, "E-POLL-ACTIVE"),
        ("a socket that is bound only", guest.bound()[0], EINVAL, "E-POLL-NOTLISTEN"),
    )
    for what, id, wanted, erratum in cases:
        req_id = guest.push(raw.poll_request, id)
        if not guest.is_answered(req_id):
            raise Differs(erratum, f"POLL of {what} is not answered")
        expect(f"ret of POLL of {what}", guest.answer(req_id).ret, wanted, under=erratum)
