"""Socket; Socket families and address format."""

from __future__ import annotations

from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.numbers import EAFNOSUPPORT, EEXIST, EINVAL, ENOTSUP, ERRORS
from refimpl.conform.probes import Probes, complain, expect, require
from refimpl.testing import raw

probe = Probes()
#: What names one socket as well as another.
IDS = (0, 1, 2**32, 2**63, 0xFFFF_8880_1234_5678, 2**64 - 1)


@probe("SOCKET-1", "SOCKET-6", "FAMILY-1")
def a_socket_is_made(guest: Guest) -> None:
    """SOCKET AF_INET, SOCK_STREAM, protocol 0 is answered 0, and what it made can be bound, listen and connect."""
    listener = guest.listener()
    guest.active(listener.port_number)


@probe("SOCKET-5")
def the_response_carries_the_id(guest: Guest) -> None:
    """SOCKET's response carries its id, any 64 bits of it."""
    for id in IDS:
        expect("the id in SOCKET's response", guest.ask(raw.socket_request, id).id, id)
        guest.ask(raw.release_request, id)


@probe("SOCKET-1")
def any_64_bits_name_a_socket(guest: Guest) -> None:
    """Sockets whose ids differ in their upper or lower half alone are different sockets."""
    for id in IDS:
        guest.socket(id)
    guest.ask(raw.release_request, IDS[0])
    for id in IDS[1:]:
        ret = guest.ask(raw.bind_request, id, guest.address(0)).ret
        expect(f"ret of BIND of {id:#x}, after {IDS[0]:#x} was released", ret, 0)


@probe("SOCKET-7")
def a_family_that_is_not_served_is_an_error(guest: Guest) -> None:
    """SOCKET of a family, type or protocol that is not served fails with a negative number."""
    for domain, type, protocol in ((10, 1, 0), (2, 2, 0), (2, 3, 0), (1, 1, 0), (2, 1, 6), (0, 1, 0), (2**31, 1, 0)):
        ret = guest.ask(raw.socket_request, guest.number(), domain, type, protocol).ret
        require(ret in ERRORS, f"SOCKET domain {domain}, type {type}, protocol {protocol} is answered {ret}")


@probe("SOCKET-1")
def an_id_in_use_is_refused(guest: Guest) -> None:
    """SOCKET of an id that has a socket is EEXIST, and the socket stays."""
    id, number = guest.bound()
    expect("ret of SOCKET of an id in use", guest.ask(raw.socket_request, id).ret, EEXIST, under="E-DUPID")
    expect("ret of LISTEN of the first", guest.ask(raw.listen_request, id).ret, 0)
    guest.active(number)


@probe("FAMILY-2")
def other_combinations_are_enotsup(guest: Guest) -> None:
    """SOCKET of another family, or another type, is ENOTSUP."""
    for domain, type in ((10, 1), (2, 2)):
        ret = guest.ask(raw.socket_request, guest.number(), domain, type).ret
        expect(f"ret of SOCKET domain {domain}, type {type}", ret, ENOTSUP, under="E-FAMERR" if ret < 0 else None)


@probe("FAMILY-1")
def protocol_0_is_the_only_one(guest: Guest) -> None:
    """SOCKET AF_INET, SOCK_STREAM with a protocol other than 0 is refused."""
    for protocol in (2, 6, 17):
        ret = guest.ask(raw.socket_request, guest.number(), 2, 1, protocol).ret
        require(ret in ERRORS, f"SOCKET with protocol {protocol} is answered {ret}", under="E-PROTO")


@probe("FAMILY-3")
def families_have_their_own_numbers(guest: Guest) -> None:
    """AF_INET is 2 and SOCK_STREAM is 1: no other number of the document's makes a socket."""
    made = [
        (domain, type)
        for domain in (0, 1, 2, 10)
        for type in (1, 2, 3)
        if guest.ask(raw.socket_request, guest.number(), domain, type).ret == 0
    ]
    require(made == [(2, 1)], f"(domain, type) that make a socket: {made}, not (2, 1) alone")


@probe("FAMILY-4", "FAMILY-5")
def an_address_is_family_port_and_address(guest: Guest) -> None:
    """An address has the family at 0, the port at 2, the address at 4; what the other 20 bytes say means nothing."""
    listener = guest.listener()
    stale = guest.address(listener.port_number)[:8] + b"\xa5" * 20
    ring = guest.ring()
    ret = guest.ask(raw.connect_request, guest.socket(), stale, ring.ref, ring.port).ret
    expect("ret of CONNECT, with stale bytes after the address", ret, 0, under="E-SOCKADDR")


@probe("FAMILY-4")
def another_family_in_an_address_is_refused(guest: Guest) -> None:
    """CONNECT and BIND to an address of another family are refused."""
    ring, listener = guest.ring(), guest.listener()
    other = guest.address(listener.port_number, family=10)
    connected = guest.ask(raw.connect_request, guest.socket(), other, ring.ref, ring.port).ret
    bound = guest.ask(raw.bind_request, guest.socket(), guest.address(0, family=10)).ret
    for what, ret in (("CONNECT", connected), ("BIND", bound)):
        if ret not in ERRORS:
            complain(f"{what} to an address of family 10 is answered {ret}")
        require(ret in (EAFNOSUPPORT, EINVAL), f"{what} to an address of family 10 is answered {ret}", under="E-LEN")


@probe("FAMILY-6")
def port_and_address_are_in_network_order(guest: Guest) -> None:
    """A port number whose bytes differ is met again under that number, and not with its bytes exchanged."""
    listener = guest.listener()
    guest.active(listener.port_number)
    listener.accept()
    exchanged = int.from_bytes(listener.port_number.to_bytes(2, "big"), "little")
    other = guest.socket()
    ret = guest.ask(raw.bind_request, other, guest.address(exchanged)).ret
    require(ret != -98 or exchanged == listener.port_number, "the number with its bytes exchanged is in use too")
