"""What a guest can name, and what it cannot."""

from __future__ import annotations

import pytest

from refimpl.testing import raw


def ref_of(ring) -> int:
    return ring.held[0].refs[0]


@pytest.mark.spec("IDX-3", "IDX-4")
@pytest.mark.security("SEC-B-8")
def test_a_guest_cannot_name_another_guests_grants_or_channels(machine, server) -> None:
    one, other = machine.guest(), machine.guest()
    foreign = None
    for _ in range(20):  # Until the other guest has a ref and a port that this one has not.
        foreign = other.make_data_ring()
    own = one.make_data_ring()
    one.open_socket(7)
    assert foreign is not None and ref_of(foreign) != ref_of(own)
    address = raw.address(*server.getsockname())
    assert one.ask(raw.connect_request, 7, address, ref_of(foreign), own.port).ret == -14
    assert one.ask(raw.connect_request, 7, address, ref_of(own), foreign.port).ret == -22
    assert one.ask(raw.connect_request, 7, address, ref_of(own), own.port).ret == 0


@pytest.mark.security("SEC-B-12", "SEC-B-20")
def test_a_guest_may_end_its_grants_and_rewrite_its_pages_under_the_backend(machine, server) -> None:
    guest = machine.guest()
    ring = guest.connected(7, server.getsockname())
    peer, _ = server.accept()
    with peer:
        guest.put(ring, b"before")
        assert peer.recv(50) == b"before"
        port = ring.port
        guest.rings.remove(ring)
        ring.release()  # The mapping stays the backend's until it lets go.
        peer.sendall(b"into pages that are no longer granted")
        guest.notify(port)
        guest.turn()
        assert guest.ask(raw.release_request, 7).ret == 0
    guest.connected(8, server.getsockname())


@pytest.mark.security("SEC-B-6")
def test_one_guest_leaves_descriptors_to_the_others_and_gives_back_its_own(machine) -> None:
    machine.serve()
    shared = machine.backend._services.descriptors
    shared.most = 40
    greedy, modest = machine.guest(), machine.guest()
    answers = [greedy.ask(raw.socket_request, id).ret for id in range(35)]
    assert (answers.count(0), answers.count(-24)) == (30, 5)
    for id in range(10):
        modest.open_socket(id)
    assert shared.taken == 40
    for id in range(30):
        assert greedy.ask(raw.release_request, id).ret == 0
    assert shared.taken == 10
    for id in range(10, 25):
        modest.open_socket(id)
    modest.close()
