"""Release."""

from __future__ import annotations

from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.sockets import END
from refimpl.conform.probes import NotObservable, Probes, expect, require
from refimpl.testing import raw

probe = Probes()


@probe("RELEASE-1", "RELEASE-12")
def an_active_socket_is_closed(guest: Guest) -> None:
    """RELEASE of a connected socket is answered 0, and the other end of the connection sees it end."""
    stream = guest.stream()
    expect("ret", stream.near.release().ret, 0)
    expect("in_error of the other end", stream.far.await_error("in"), END)


@probe("RELEASE-1")
def a_socket_that_did_nothing_is_closed(guest: Guest) -> None:
    """RELEASE of a socket that was only made, or only bound, is answered 0."""
    for id in (guest.socket(), guest.bound()[0]):
        expect("ret", guest.ask(raw.release_request, id).ret, 0, under="E-REL-SOCKETONLY")


@probe("RELEASE-1")
def an_unknown_id_is_no_error(guest: Guest) -> None:
    """RELEASE of an id that has no socket is answered 0: frontends do send that."""
    expect("ret", guest.ask(raw.release_request, guest.number()).ret, 0, under="E-REL-UNKNOWN")


@probe("RELEASE-2")
def a_passive_socket_is_closed(guest: Guest) -> None:
    """After RELEASE of a listening socket nobody listens, and its id names nothing."""
    listener = guest.listener()
    listener.close()
    refused = guest.connect_to(listener.port_number)
    require(refused < 0, f"CONNECT to the port number of a released listener is {refused}")
    require(guest.ask(raw.listen_request, listener.id).ret < 0, "the released id can LISTEN")


@probe("RELEASE-3", "RELEASE-4")
def an_active_sockets_ring_is_let_go(guest: Guest) -> None:
    """When RELEASE is answered the ring's event channel is unbound: the same ring serves the next ACCEPT."""
    listener, ring = guest.listener(), guest.ring()
    for _ in range(2):
        near = guest.active(listener.port_number)
        accepted = listener.accept(ring)
        expect("ret", accepted.release().ret, 0)
        near.release()
        ring.indexes.memory[:128] = bytes(128)


@probe("RELEASE-4")
def what_is_in_out_is_sent_first(guest: Guest) -> None:
    """Bytes that stand in `out` at RELEASE still reach the other end."""
    stream = guest.stream(order=3)
    sent = bytes(range(256)) * 40
    stream.near.ring.produce("out", sent)
    guest.platform.fences.full()
    stream.near.release()
    received = stream.far.receive(len(sent))
    require(received == sent, f"of {len(sent)} bytes in out {len(received)} arrive", under="E-SENDCLOSE")


@probe("RELEASE-7")
def reuse_means_nothing_for_a_passive_socket(guest: Guest) -> None:
    """RELEASE of a listening socket with `reuse` 1 closes it as any other."""
    listener = guest.listener()
    expect("ret", guest.ask(raw.release_request, listener.id, reuse=1).ret, 0)
    refused = guest.connect_to(listener.port_number)
    require(refused < 0, f"CONNECT to the port number of a released listener is {refused}")
    guest.forget(listener)


@probe("RELEASE-9")
def a_hint_to_keep_the_ring_harms_nothing(guest: Guest) -> None:
    """RELEASE with `reuse` 1, or a stale byte there, is answered 0, and the same ring works with the next socket."""
    listener, ring = guest.listener(), guest.ring()
    for reuse in (1, 0xA5, 0):
        near = guest.active(listener.port_number, ring)
        far = listener.accept()
        near.send(b"kept")
        expect("what is received", far.receive(4), b"kept")
        far.release()
        expect("ret", near.release(reuse=reuse).ret, 0)
        ring.indexes.memory[:128] = bytes(128)


@probe("RELEASE-10")
def a_kept_ring_is_found_by_its_page(guest: Guest) -> None:
    """A data ring that was kept is found again by the grant of its indexes page."""
    raise NotObservable("a backend that keeps a ring and one that maps it anew look the same from the guest")


@probe("RELEASE-11")
def the_response_carries_the_id(guest: Guest) -> None:
    """RELEASE's response carries its id, of sockets of every kind and of none."""
    stream = guest.stream()
    for id in (stream.near.id, stream.far.id, guest.socket(), guest.number(), 2**64 - 1):
        expect("the id in RELEASE's response", guest.ask(raw.release_request, id).id, id)
