"""Rationale: what the protocol is for."""

from __future__ import annotations

from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.numbers import ENOTSUP, EOPNOTSUPP, ERRORS
from refimpl.conform.probes import Differs, Probes, expect, require
from refimpl.testing import raw

probe = Probes()


@probe("RAT-1", "BNODE-7")
def all_seven_commands_work(guest: Guest) -> None:
    """SOCKET, BIND, LISTEN, POLL, CONNECT, ACCEPT, bytes both ways, RELEASE: each is answered 0 and does its work."""
    listener = guest.listener()
    polled = listener.poll()
    near = guest.active(listener.port_number)
    expect("ret of POLL", guest.answer(polled).ret, 0)
    far = listener.accept()
    near.send(b"there")
    expect("what the accepted socket receives", far.receive(5), b"there")
    far.send(b"back")
    expect("what the connected socket receives", near.receive(4), b"back")
    expect("ret of RELEASE", near.release().ret, 0)


@probe("RAT-3", "RING-16")
def unknown_commands_are_answered(guest: Guest) -> None:
    """A cmd that is none of the seven is answered with ENOTSUP."""
    for cmd in (7, 8, 255, 2**31, 2**32 - 1):
        ret = guest.ask(lambda req_id, cmd=cmd: raw.request(cmd, req_id, b"\xa5" * 56)).ret
        if ret == EOPNOTSUPP:
            raise Differs("E-ENOTSUP", f"cmd {cmd} is answered {ret}, POSIX's ENOTSUP, not {ENOTSUP}")
        expect(f"ret of cmd {cmd}", ret, ENOTSUP)


@probe("RAT-6")
def a_listener_is_at_the_backends_address(guest: Guest) -> None:
    """A guest's listening socket is bound to an address of the backend's domain, and is reached there."""
    listener = guest.listener()
    guest.active(listener.port_number)
    listener.accept()
    refused = guest.connect_to(guest.nobody())
    require(refused in ERRORS, f"ret of CONNECT to a port number that no one listens on is {refused}")
