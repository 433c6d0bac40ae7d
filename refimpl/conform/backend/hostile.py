"""What no honest guest does: the rules against hostile guests, those first that do the least harm where broken.

Each has a connection of its own. What brings Linux 6.1's backend down comes last, from LAST_STAND on.
"""

from __future__ import annotations

import time

from refimpl.conform.backend import bind_and_listen, connect
from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.numbers import EBADF, EFAULT, EINVAL, EMFILE, ENFILE, ENOBUFS, ERRORS
from refimpl.conform.backend.xenstore import number_in
from refimpl.conform.probes import Failed, NotObservable, Probes, expect, require
from refimpl.testing import raw
from refimpl.testing.hostile import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED
from refimpl.testing.raw import SLOTS

probe = Probes(hostile=True)
#: What is no grant, and no port, of any guest.
NO_GRANT, NO_PORT = 0xFFFF_FFF0, 0x7FFF_FFF0
#: More sockets than any guest needs.
MANY = 3000


@probe("SEC-B-3")
def the_backends_own_words_are_not_believed(guest: Guest) -> None:
    """rsp_prod and req_event, rewritten by the guest, change nothing: responses go on where they were."""
    front = guest.front
    for number in range(2 * SLOTS):
        front.commands["rsp_prod"] = 77 + number
        front.commands["req_event"] = 2**31 + number
        front.push(raw.release_request(number, number))
        front.await_true(lambda number=number: front.commands["rsp_prod"] == number + 1, "response at its own index")  # type: ignore[misc]
        expect("req_id of the response", raw.RawResponse(front.commands.slot(number)).req_id, number)


@probe("SEC-B-5")
def nothing_stale_is_in_a_response(guest: Guest) -> None:
    """Every byte of a response is written: 24, pad 0."""
    front = guest.front
    front.commands.put(0, b"\xcc" * 64)
    front.push(raw.release_request(1, 2)[:12] + b"\xcc" * 52)
    expect("pad", guest.answer(1).pad, 0, under="E-PADRSP")


@probe("SEC-B-6")
def sockets_are_limited(guest: Guest) -> None:
    """Thousands of SOCKETs are each answered, and refused from some number on."""
    rets = []
    for first in range(0, MANY, SLOTS):
        guest.front.push(*(raw.socket_request(id, id) for id in range(first, first + SLOTS)))
        rets += [guest.answer(id).ret for id in range(first, first + SLOTS)]
        if rets[-1] != 0:
            break
    expect("what SOCKET is answered", set(rets) <= {0, EMFILE, ENFILE, ENOBUFS}, True)
    if rets[-1] == 0:
        raise NotObservable(f"no limit was met with {len(rets)} sockets")


@probe("SEC-B-11")
def impossible_indexes_stop_one_socket(guest: Guest) -> None:
    """out_prod further ahead than the array's size sets both error words to EIO; the device goes on."""
    for ahead in (1, 2**31):
        stream = guest.stream()
        half = stream.near.ring.half_bytes
        stream.near.page["out_prod"] = half + ahead
        guest.front.notify(stream.near.ring.port)
        try:
            errors = stream.near.await_error("out"), stream.near.await_error("in")
        except AssertionError:
            errors = stream.near.error("out"), stream.near.error("in")
        require(guest.is_connected, "the device went down with it")
        expect("out_error and in_error", errors, (-5, -5), under="E-IDXBAD")


@probe("SEC-B-13")
def nothing_is_gathered_without_bound(guest: Guest) -> None:
    """With a receiver that never reads, `out` is taken no more once TCP is full, and commands are still answered."""
    order = min(4, number_in(guest, "max-page-order"))
    stream = guest.stream(order)
    page, half, taken = stream.near.page, stream.near.ring.half_bytes, 0
    deadline = time.monotonic() + guest.front.patience
    while page["out_cons"] == page["out_prod"]:
        if taken > 64 << 20 or time.monotonic() > deadline:
            raise Failed(f"{taken} bytes were taken of a sender whose receiver never reads")
        page["out_prod"] += half
        taken += half
        guest.platform.fences.full()
        guest.front.notify(stream.near.ring.port)
        still = time.monotonic() + 0.5
        while page["out_cons"] != page["out_prod"] and time.monotonic() < still:
            for port in guest.platform.wait(0.05):
                guest.platform.rearm(port)
    guest.socket()
    stream.far.release()  # First: then nobody waits for what is left in `out`.
    stream.near.release()


@probe("SEC-B-14")
def a_storm_of_events_is_weathered(guest: Guest) -> None:
    """While events come by the ten thousand, commands are answered."""
    stream = guest.stream()
    for _ in range(20):
        for _ in range(1000):
            guest.front.notify(stream.near.ring.port)
            guest.front.notify()
        guest.ask(raw.release_request, guest.number())


@probe("SEC-B-16")
def no_length_of_an_address_is_followed(guest: Guest) -> None:
    """An address's `len` under 16 or over 28 is refused, whatever it is."""
    connect.lengths_that_are_no_address_are_refused(guest)
    bind_and_listen.lengths_that_are_no_address_are_refused(guest)


@probe("SEC-B-17")
def nodes_that_are_no_numbers_are_refused(guest: Guest) -> None:
    """A ring-ref or a port that is anything but a decimal number is not taken."""
    for name in ("ring-ref", "port"):
        for form in (b" %d", b"+%d", b"%d ", b"%dx", b"0x%x", b"%d_0", b"", b"-1", b"9" * 400):
            guest.begin(4 * guest.patience)
            guest.disconnect()
            guest.start_anew()
            front = guest.front
            right = {"version": b"1", "ring-ref": front.ring_ref, "port": front.port}
            value = form % right[name] if b"%" in form else form
            for each, number in (right | {name: value}).items():
                front.write_node(each, number)  # type: ignore[arg-type]
            front.set_state(INITIALISED)
            try:
                state = front.await_state(CONNECTED, CLOSING, CLOSED)
            except AssertionError:
                continue  # It stays InitWait.
            require(state != CONNECTED, f"{name} {value!r} is taken")


@probe("SEC-B-18")
def states_that_flicker_are_survived(guest: Guest) -> None:
    """A state that changes hundreds of times leaves a backend that connects again."""
    for number in range(300):
        guest.front.set_state((CLOSING, CLOSED, 1, 3, CONNECTED, 2)[number % 6])
    guest.front.set_state(CLOSING)
    guest.front.await_state(CLOSING, CLOSED, INIT_WAIT)
    guest.drop()
    guest.connect()
    guest.socket()


@probe("SEC-B-4")
def polls_that_make_no_sense_are_answered(guest: Guest) -> None:
    """32 POLLs of ids that nobody knows are each answered once: no slot of the ring is lost."""
    first = guest.number() << 8
    guest.front.push(*(raw.poll_request(first + n, first + n) for n in range(SLOTS)))
    for n in range(SLOTS):
        guest.answer(first + n)
    guest.ask(raw.release_request, guest.number())
    expect("responses, less requests", guest.front.commands["rsp_prod"], SLOTS + 1)


@probe("SEC-B-1")
def a_wild_req_prod_closes_the_device(guest: Guest) -> None:
    """A req_prod that claims more requests than there are slots is not followed: the backend goes to Closing."""
    for ahead in (33, 2**31, 2**32 - 1):
        guest.front.commands["req_prod"] = guest.front.commands["req_prod"] + ahead
        guest.front.notify()
        try:
            guest.front.await_state(CLOSING, CLOSED)
        except AssertionError:
            answered = guest.front.commands["rsp_prod"]
            raise Failed(f"with req_prod {ahead} ahead the backend stays; it answered {answered} requests") from None
        guest.disconnect()
        guest.connect()


# LAST_STAND: what follows brings Linux 6.1's backend down, or leaves its device unusable.


@probe("SEC-B-19")
def closing_at_any_moment_is_survived(guest: Guest) -> None:
    """Closing with requests waiting and bytes under way leaves a backend that connects again."""
    for _ in range(3):
        stream = guest.stream()
        stream.near.send(b"x" * stream.near.ring.half_bytes)
        stream.listener.start_accept()
        guest.disconnect()
        guest.connect()
    guest.stream()


@probe("SEC-B-7")
def orders_that_were_not_offered_are_refused(guest: Guest) -> None:
    """ring_order 0, or above max-page-order, is EINVAL; the TCP connection is closed and the device goes on."""
    listener = guest.listener()
    for order in (number_in(guest, "max-page-order") + 1, 10, 31, 2**31, 2**32 - 1, 0):
        ret = guest.connect_to(listener.port_number, guest.ring(1, ring_order=order))
        require(guest.is_connected, f"ring_order {order} brings the device down", under="E-MAPFAIL")
        require(
            ret in ERRORS, f"CONNECT with ring_order {order} is answered {ret}", under=None if order else "E-ORDER0"
        )
        expect(f"ret of CONNECT with ring_order {order}", ret, EINVAL, under="E-MAPFAIL")


@probe("SEC-B-7")
def grants_listed_twice_are_refused(guest: Guest) -> None:
    """A ref[] with a grant in it twice, or with the indexes page's own, is refused."""
    listener = guest.listener()
    for what, refs in (
        ("one grant twice", lambda refs, page: [refs[0]] * len(refs)),
        ("the indexes page", lambda refs, page: [page, *refs[1:]]),
    ):
        ret = guest.connect_to(listener.port_number, guest.ring(1, refs=refs))
        require(ret in ERRORS, f"CONNECT with {what} in ref[] is answered {ret}")


@probe("SEC-B-9", "CONNECT-8")
def a_bad_grant_fails_its_connect_alone(guest: Guest) -> None:
    """CONNECT with a ref that is no grant is EFAULT; its TCP connection is closed and the device goes on."""
    listener = guest.listener()
    good = guest.ring()
    address = guest.address(listener.port_number)
    last_bad = guest.ring(1, refs=lambda refs, page: [*refs[:-1], NO_GRANT])
    for what, ref, port in (("ref", NO_GRANT, good.port), ("the last of ref[]", last_bad.ref, last_bad.port)):
        ret = guest.ask(raw.connect_request, guest.socket(), address, ref, port).ret
        require(guest.is_connected, f"{what} that is no grant brings the device down", under="E-MAPFAIL")
        expect(f"ret of CONNECT with {what} no grant", ret, EFAULT, under="E-MAPFAIL" if ret in ERRORS else None)
    guest.active(listener.port_number, good)


@probe("SEC-B-10", "CONNECT-9")
def a_port_that_cannot_be_bound_is_refused(guest: Guest) -> None:
    """CONNECT with an evtchn that is none, that is in use, or that is the commands ring's, is EINVAL."""
    listener = guest.listener()
    used = guest.active(listener.port_number)
    for what, port in (("no port", NO_PORT), ("a port in use", used.ring.port), ("the commands'", guest.front.port)):
        ring = guest.ring()
        ret = guest.ask(raw.connect_request, guest.socket(), guest.address(listener.port_number), ring.ref, port).ret
        require(guest.is_connected, f"evtchn {what} brings the device down", under="E-MAPFAIL")
        expect(f"ret of CONNECT with evtchn {what}", ret, EINVAL, under="E-EVTCHN-DUP" if ret in ERRORS else None)


@probe("SEC-B-22", "ACCEPT-9")
def an_accepts_grants_are_looked_at_late(guest: Guest) -> None:
    """ACCEPT with a bad ref waits as any other, ends its connection with EFAULT, and the next is not affected."""
    listener = guest.listener()
    req_id, port = guest.number(), guest.ring().port
    guest.front.push(raw.accept_request(req_id, listener.id, guest.number(), NO_GRANT, port))
    require(not guest.is_answered(req_id), "ACCEPT with a bad ref is answered before there is a connection")
    guest.active(listener.port_number)
    ret = guest.answer(req_id).ret
    require(guest.is_connected, "a ref that is no grant brings the device down", under="E-MAPFAIL")
    expect("ret of ACCEPT with a ref that is no grant", ret, EFAULT, under="E-MAPFAIL" if ret in ERRORS else None)
    guest.active(listener.port_number)
    listener.accept()


@probe("ACCEPT-15")
def a_socket_that_does_not_listen_accepts_nothing(guest: Guest) -> None:
    """ACCEPT of a socket that is bound and does not listen is EINVAL, at once."""
    id, _ = guest.bound()
    ring = guest.ring()
    ret = guest.ask(raw.accept_request, id, guest.number(), ring.ref, ring.port).ret
    expect("ret of ACCEPT without LISTEN", ret, EINVAL, under="E-WRONGSTATE" if ret in ERRORS else None)


@probe("SEC-B-4", "RELEASE-2", "ACCEPT-6")
def what_waits_is_answered_at_release(guest: Guest) -> None:
    """RELEASE of a listening socket whose ACCEPT waits answers both: EBADF, and 0."""
    listener, ring = guest.listener(), guest.ring()
    accepting, releasing = guest.number(), guest.number()
    guest.front.push(
        raw.accept_request(accepting, listener.id, guest.number(), ring.ref, ring.port),
        raw.release_request(releasing, listener.id),
    )
    guest.forget(listener)
    expect("ret of RELEASE", guest.answer(releasing).ret, 0)
    if not guest.is_answered(accepting):
        raise Failed("an ACCEPT that waits is not answered when its listener is released")
    expect("ret of ACCEPT", guest.answer(accepting).ret, EBADF, under="E-ACC-REL")
