"""Connect."""

from __future__ import annotations

from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.numbers import EBADF, ECONNREFUSED, EINVAL, EISCONN, EOPNOTSUPP, ERRORS
from refimpl.conform.probes import Probes, complain, expect, require
from refimpl.testing import raw

probe = Probes()
#: POSIX connect()'s errors, by Linux's numbers; EACCES is what a backend's policy says.
POSIX_ERRORS = frozenset((-13, -4, -5, -9, -22, -88, -95, -97, *range(-106, -97), -110, -111, *range(-115, -112)))


@probe("CONNECT-1", "CONNECT-16")
def connect_connects(guest: Guest) -> None:
    """CONNECT to a socket that listens is answered 0 and with its id, and the connection waits to be accepted."""
    listener, id, ring = guest.listener(), guest.socket(), guest.ring()
    answer = guest.ask(raw.connect_request, id, guest.address(listener.port_number), ring.ref, ring.port)
    expect("ret", answer.ret, 0)
    expect("the id in CONNECT's response", answer.id, id)
    listener.accept()


@probe("CONNECT-1")
def a_bound_socket_connects_from_its_address(guest: Guest) -> None:
    """BIND and then CONNECT is one socket: one RELEASE ends it."""
    listener = guest.listener()
    id, _ = guest.bound()
    ring = guest.ring()
    expect("ret", guest.ask(raw.connect_request, id, guest.address(listener.port_number), ring.ref, ring.port).ret, 0)
    guest.ask(raw.release_request, id)
    ret = guest.ask(raw.listen_request, id).ret
    require(ret < 0, f"after RELEASE of the connected socket LISTEN of its id is {ret}", under="E-BINDCONNECT")


@probe("CONNECT-1")
def a_failed_connect_may_be_tried_again(guest: Guest) -> None:
    """After a CONNECT that was refused, the same socket connects with the same ring and the same port."""
    listener = guest.listener()
    id, ring = guest.socket(), guest.ring()
    for number, wanted in ((guest.nobody(), ERRORS), (listener.port_number, {0})):
        ret = guest.ask(raw.connect_request, id, guest.address(number), ring.ref, ring.port).ret
        expect("ret", ret, wanted, under="E-CONN-RETRY" if wanted == {0} else None)


@probe("CONNECT-5")
def an_unknown_id_is_refused(guest: Guest) -> None:
    """CONNECT of an id that has no socket is EBADF."""
    ring, listener = guest.ring(), guest.listener()
    id = guest.number()
    ret = guest.ask(raw.connect_request, id, guest.address(listener.port_number), ring.ref, ring.port).ret
    if ret == 0:
        guest.ask(raw.release_request, id)
    expect("ret of CONNECT of an unknown id", ret, EBADF, under="E-UNKNOWN-ID")


@probe("CONNECT-6")
def a_refused_connect_never_looks_at_the_ring(guest: Guest) -> None:
    """TCP comes first: where the port refuses, that is the answer, though ref and evtchn name nothing at all."""
    nobody = guest.address(guest.nobody())
    ret = guest.ask(raw.connect_request, guest.socket(), nobody, 0xFFFF_FFF0, 0x7FFF_FFF0).ret
    expect("ret of CONNECT to nobody with a ref that is no grant", ret, POSIX_ERRORS)
    require(guest.is_connected, "the backend left Connected")


@probe("CONNECT-7", "CONNECT-8", "CONNECT-9", "CONNECT-10")
def the_response_completes_the_connect(guest: Guest) -> None:
    """With the response the page and the ring are mapped and the port is bound: bytes and events come at once."""
    stream = guest.stream()
    guest.quiet()
    stream.far.send(b"at once")
    require(guest.hears(stream.near.ring.port), "no event came on the port of CONNECT")
    expect("what is received", stream.near.receive(7), b"at once")


@probe("CONNECT-10")
def what_was_in_out_before_goes_out(guest: Guest) -> None:
    """Bytes that stood in `out` when CONNECT was sent are sent once it is answered."""
    listener, ring = guest.listener(), guest.ring()
    ring.produce("out", b"early")
    near = guest.active(listener.port_number, ring)
    guest.front.notify(near.ring.port)
    expect("what the accepted socket receives", listener.accept().receive(5), b"early")


@probe("CONNECT-11")
def released_rings_can_be_used_again(guest: Guest) -> None:
    """After RELEASE the ring's grants and its port are free: the next CONNECT with the same ones succeeds."""
    listener, ring = guest.listener(), guest.ring()
    for _ in range(3):
        near = guest.active(listener.port_number, ring)
        expect("ret of RELEASE", near.release().ret, 0)
        ring.indexes.memory[:128] = bytes(128)


@probe("CONNECT-15")
def flags_mean_nothing(guest: Guest) -> None:
    """CONNECT is carried out whatever `flags` says."""
    listener = guest.listener()
    for flags in (0, 0x800, 2**32 - 1):
        guest.active(listener.port_number, flags=flags)


@probe("CONNECT-17")
def a_refused_connect_says_so(guest: Guest) -> None:
    """CONNECT to a port number that no one listens on is refused: ECONNREFUSED, or what the backend's policy says."""
    ret = guest.connect_to(guest.nobody())
    require(ret in POSIX_ERRORS, f"ret is {ret}, none of POSIX connect()'s errors")
    require(ret in (ECONNREFUSED, -13), f"ret is {ret}, not {ECONNREFUSED}")


@probe("CONNECT-17")
def lengths_that_are_no_address_are_refused(guest: Guest) -> None:
    """CONNECT with `len` under 16 or over 28 is EINVAL."""
    listener = guest.listener()
    for length in (0, 1, 2, 15, 29, 64, 2**31, 2**32 - 1):
        ret = guest.connect_to(listener.port_number, length=length)
        expect(f"ret of CONNECT with len {length}", ret, EINVAL, under="E-LEN" if ret < 0 else None)
    for length in (16, 28):
        guest.active(listener.port_number, length=length)


@probe("CONNECT-17")
def a_connected_socket_connects_no_more(guest: Guest) -> None:
    """CONNECT of a socket that is connected is EISCONN; of one that listens, EOPNOTSUPP."""
    listener = guest.listener()
    near = guest.active(listener.port_number)
    address = guest.address(listener.port_number)
    for id, wanted in ((near.id, EISCONN), (listener.id, EOPNOTSUPP)):
        ring = guest.ring()
        ret = guest.ask(raw.connect_request, id, address, ring.ref, ring.port).ret
        if ret == 0:
            guest.ask(raw.release_request, id)
            complain("CONNECT of a socket in use makes another", under="E-WRONGSTATE")
        expect("ret of CONNECT of a socket in use", ret, wanted, under="E-WRONGSTATE")
