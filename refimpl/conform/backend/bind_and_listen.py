"""Bind; Listen."""

from __future__ import annotations

from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.numbers import EADDRINUSE, EADDRNOTAVAIL, EBADF, EINVAL, ERRORS
from refimpl.conform.probes import Probes, expect, require
from refimpl.testing import raw

probe = Probes()


@probe("BIND-1")
def a_bound_address_is_taken(guest: Guest) -> None:
    """BIND gives the socket its address: a second socket cannot have it."""
    id, number = guest.bound()
    guest.ask(raw.listen_request, id)
    ret = guest.ask(raw.bind_request, guest.socket(), guest.address(number)).ret
    expect("ret of BIND to an address in use", ret, EADDRINUSE)


@probe("BIND-1")
def an_unknown_id_is_refused_an_address(guest: Guest) -> None:
    """BIND of an id that has no socket is EBADF."""
    id = guest.number()
    ret = guest.ask(raw.bind_request, id, guest.address(0)).ret
    guest.ask(raw.release_request, id)
    expect("ret of BIND of an unknown id", ret, EBADF, under="E-UNKNOWN-ID")


@probe("BIND-5")
def the_response_carries_the_id(guest: Guest) -> None:
    """BIND's response carries its id, whether it succeeds or not."""
    id = guest.socket(0xFEDC_BA98_7654_3210)
    for address in (raw.address("203.0.113.1", 20000), guest.address(0)):
        expect("the id in BIND's response", guest.ask(raw.bind_request, id, address).id, id)


@probe("BIND-6")
def an_address_that_is_not_there_is_refused(guest: Guest) -> None:
    """BIND to an address that is not the backend's is EADDRNOTAVAIL, or what the backend's policy says."""
    ret = guest.ask(raw.bind_request, guest.socket(), raw.address("203.0.113.1", 20000)).ret
    require(ret in (EADDRNOTAVAIL, -13), f"ret is {ret}, not {EADDRNOTAVAIL}")


@probe("BIND-6")
def a_second_address_is_refused(guest: Guest) -> None:
    """BIND of a socket that has an address is EINVAL."""
    id, _ = guest.bound()
    ret = guest.ask(raw.bind_request, id, guest.address(0)).ret
    require(ret in ERRORS, f"ret of a second BIND is {ret}", under="E-WRONGSTATE")
    expect("ret of a second BIND", ret, EINVAL, under="E-WRONGSTATE")


@probe("BIND-6")
def lengths_that_are_no_address_are_refused(guest: Guest) -> None:
    """BIND with `len` under 16 or over 28 is EINVAL."""
    for length in (0, 15, 29, 64, 2**32 - 1):
        id = guest.socket()
        ret = guest.ask(raw.bind_request, id, guest.address(0), length=length).ret
        expect(f"ret of BIND with len {length}", ret, EINVAL, under="E-LEN")


@probe("LISTEN-1")
def a_listening_socket_takes_connections(guest: Guest) -> None:
    """A bound socket refuses connections until LISTEN, and takes them from then on."""
    id, number = guest.bound()
    require(guest.connect_to(number) < 0, "a socket that is bound and does not listen takes a connection")
    expect("ret of LISTEN", guest.ask(raw.listen_request, id, 3).ret, 0)
    guest.active(number)


@probe("LISTEN-1")
def an_unknown_id_cannot_listen(guest: Guest) -> None:
    """LISTEN of an id that has no socket is EBADF."""
    ret = guest.ask(raw.listen_request, guest.number()).ret
    require(ret in ERRORS, f"ret of LISTEN of an unknown id is {ret}")
    expect("ret of LISTEN of an unknown id", ret, EBADF, under="E-UNKNOWN-ID")


@probe("LISTEN-3")
def listens_response_carries_the_id(guest: Guest) -> None:
    """LISTEN's response carries its id, whether it succeeds or not."""
    for id in (guest.bound()[0], guest.number(), 2**64 - 2):
        expect("the id in LISTEN's response", guest.ask(raw.listen_request, id).id, id)


@probe("LISTEN-4")
def a_socket_without_an_address_cannot_listen(guest: Guest) -> None:
    """LISTEN of a socket without an address is EINVAL."""
    ret = guest.ask(raw.listen_request, guest.socket()).ret
    require(ret in ERRORS, f"ret of LISTEN without BIND is {ret}", under="E-WRONGSTATE")
    expect("ret of LISTEN without BIND", ret, EINVAL, under="E-WRONGSTATE")


@probe("LISTEN-4")
def any_backlog_is_taken(guest: Guest) -> None:
    """LISTEN takes any 32 bits of `backlog`."""
    for backlog in (1, 128, 65536, 2**31, 2**32 - 1):
        listener = guest.listener(backlog)
        guest.active(listener.port_number)
