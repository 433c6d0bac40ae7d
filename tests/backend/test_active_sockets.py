"""Connect, and release of what is connected, over a real commands ring, by a guest that writes every byte itself."""

from __future__ import annotations

import socket
import struct

import pytest

from refimpl.backend import Call, Decision, Limits, Policy, Rule
from refimpl.testing import raw

EBADF, EFAULT, EINVAL, EISCONN = -9, -14, -22, -106


def ref_of(ring) -> int:
    return ring.held[0].refs[0]


# Connect.


@pytest.mark.spec("CONNECT-6", "CONNECT-10", "CONNECT-16", "CONNECT-17")
@pytest.mark.erratum("E-CONN-RETRY")
def test_a_refused_connect_maps_nothing_and_may_be_tried_again(machine, server, record) -> None:
    machine.serve(observer=record)
    guest = machine.guest()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused_address = closed.getsockname()
        guest.open_socket(7)
        ring = guest.make_data_ring()
        answer = guest.ask(raw.connect_request, 7, raw.address(*refused_address), ref_of(ring), ring.port)
    assert (answer.ret, answer.id) == (-111, 7)
    assert "MapIndexesPage" not in record.of("step", guest.platform.domid)
    again = guest.ask(raw.connect_request, 7, raw.address(*server.getsockname()), ref_of(ring), ring.port)
    assert again.ret == 0


@pytest.mark.spec("CONNECT-7", "CONNECT-8", "IDXPAGE-4", "IDXPAGE-5")
@pytest.mark.erratum("E-MAPFAIL", "E-ORDER0")
@pytest.mark.security("SEC-B-7", "SEC-B-9")
@pytest.mark.parametrize(
    ("ring", "ret"),
    [
        ({"ring_order": 0}, EINVAL),
        ({"ring_order": 10}, EINVAL),
        ({"ring_order": 31}, EINVAL),
        ({"ring_order": 2**32 - 1}, EINVAL),
        ({"refs": lambda refs, page: (refs[0], refs[0])}, EFAULT),
        ({"refs": lambda refs, page: (refs[0], page)}, EFAULT),
        ({"refs": lambda refs, page: (refs[0], 0xFFFFFFE4)}, EFAULT),
        ({"refs": lambda refs, page: (0, refs[1])}, EFAULT),
    ],
)
def test_a_bad_ring_is_refused_and_the_device_lives(guest, server, ring, ret: int) -> None:
    guest.open_socket(7)
    bad = guest.make_data_ring(1, **ring)
    answer = guest.ask(raw.connect_request, 7, raw.address(*server.getsockname()), ref_of(bad), bad.port)
    assert answer.ret == ret
    peer, _ = server.accept()
    with peer:
        assert peer.recv(1) == b""  # CONNECT came first, and is undone.
    good = guest.make_data_ring()
    answer = guest.ask(raw.connect_request, 7, raw.address(*server.getsockname()), ref_of(good), good.port)
    assert answer.ret == 0


@pytest.mark.erratum("E-MAPFAIL")
@pytest.mark.security("SEC-B-7", "SEC-B-9")
def test_a_ref_that_is_none_or_the_commands_ring_is_efault(guest, server) -> None:
    guest.open_socket(7)
    port = guest.make_data_ring().port
    for ref in (0, 0xFFFFFFFF, guest.ring_ref):
        answer = guest.ask(raw.connect_request, 7, raw.address(*server.getsockname()), ref, port)
        assert answer.ret == EFAULT


@pytest.mark.erratum("E-MAPFAIL")
@pytest.mark.security("SEC-B-7")
def test_the_commands_ring_does_not_pass_for_an_indexes_page(guest, server) -> None:
    guest.open_socket(7)
    guest.turn()
    ring = guest.make_data_ring(1)
    # Where an indexes page has the indexes of `out`, the order and the refs, the commands ring has its first two slots.
    guest.commands.put(0, bytes(64))
    guest.commands.put(1, struct.pack("=III", 1, *ring.held[1].refs))
    answer = guest.ask(raw.connect_request, 7, raw.address(*server.getsockname()), guest.ring_ref, ring.port)
    assert answer.ret == EFAULT


@pytest.mark.spec("CONNECT-3", "CONNECT-9")
@pytest.mark.erratum("E-EVTCHN-DUP", "E-MAPFAIL")
@pytest.mark.security("SEC-B-10")
def test_an_event_channel_absent_or_in_use_is_einval(guest, server) -> None:
    taken = guest.connected(1, server.getsockname())
    guest.open_socket(7)
    ring = guest.make_data_ring()
    for port in (0, 0xFFFFFFFF, 999, guest.port, taken.port):
        answer = guest.ask(raw.connect_request, 7, raw.address(*server.getsockname()), ref_of(ring), port)
        assert answer.ret == EINVAL
    answer = guest.ask(raw.connect_request, 7, raw.address(*server.getsockname()), ref_of(ring), ring.port)
    assert answer.ret == 0


@pytest.mark.spec("IDX-5", "IDXPAGE-6")
def test_the_grants_are_mapped_contiguously_in_the_order_of_the_list(guest, server) -> None:
    guest.open_socket(7)
    ring = guest.make_data_ring(2, refs=lambda refs, page: refs[::-1])  # Listed last page first.
    arguments = (7, raw.address(*server.getsockname()), ref_of(ring), ring.port)
    assert guest.ask(raw.connect_request, *arguments).ret == 0
    peer, _ = server.accept()
    # out is the second half of the list: here our pages 1 and 0.
    pages = [b"A" * 4096, b"B" * 4096]
    ring.data[0:4096], ring.data[4096:8192] = pages
    ring.indexes["out_prod"] = 8192
    guest.platform.fences.full()
    guest.notify(ring.port)
    with peer:
        received = b""
        while len(received) < 8192:
            received += peer.recv(8192)
    assert received == pages[1] + pages[0]


@pytest.mark.erratum("E-IDXINIT")
@pytest.mark.security("SEC-B-11")
def test_indexes_that_start_anywhere_possible_are_taken_and_impossible_ones_refused(guest, server) -> None:
    guest.open_socket(7)
    ring = guest.make_data_ring()
    ring.indexes["out_prod"] = ring.half_bytes + 1
    arguments = (7, raw.address(*server.getsockname()), ref_of(ring), ring.port)
    assert guest.ask(raw.connect_request, *arguments).ret == EINVAL
    for name in ("out_prod", "out_cons", "in_prod", "in_cons"):
        ring.indexes[name] = 2**32 - 5
    server.accept()[0].close()
    assert guest.ask(raw.connect_request, *arguments).ret == 0
    peer, _ = server.accept()
    with peer:
        guest.put(ring, b"across the border")
        assert peer.recv(50) == b"across the border"


@pytest.mark.erratum("E-WRONGSTATE", "E-LEN")
def test_wrong_states_lengths_and_families_have_their_numbers(guest, server) -> None:
    address = raw.address(*server.getsockname())
    guest.connected(1, server.getsockname())
    assert guest.ask(raw.connect_request, 1, address, 8, 2).ret == EISCONN
    assert guest.ask(raw.listen_request, 1).ret == EINVAL
    assert guest.ask(raw.poll_request, 1).ret == EINVAL
    guest.listening(2)
    assert guest.ask(raw.connect_request, 2, address, 8, 2).ret == -95
    assert guest.ask(raw.bind_request, 2, address).ret == EINVAL
    guest.open_socket(3)
    assert guest.ask(raw.connect_request, 3, address, 8, 2, length=29).ret == EINVAL
    assert guest.ask(raw.connect_request, 3, raw.address("127.0.0.1", 1, family=10), 8, 2).ret == -97
    assert guest.ask(raw.bind_request, 3, address, length=15).ret == EINVAL
    assert guest.ask(raw.accept_request, 3, 4, 8, 2).ret == EINVAL


@pytest.mark.spec("CONNECT-15")
@pytest.mark.erratum("E-FLAGS", "E-SOCKADDR")
def test_flags_and_stale_bytes_behind_the_address_are_ignored(guest, server) -> None:
    guest.open_socket(7)
    ring = guest.make_data_ring()
    stale = raw.address(*server.getsockname())[:8] + b"\xaa" * 20
    answer = guest.ask(raw.connect_request, 7, stale, ref_of(ring), ring.port, length=28, flags=0x800)
    assert answer.ret == 0


@pytest.mark.erratum("E-BINDCONNECT")
def test_a_bound_socket_connects_from_its_address(guest, server) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        source = probe.getsockname()
    guest.open_socket(7)
    assert guest.ask(raw.bind_request, 7, raw.address(*source)).ret == 0
    ring = guest.make_data_ring()
    arguments = (7, raw.address(*server.getsockname()), ref_of(ring), ring.port)
    assert guest.ask(raw.connect_request, *arguments).ret == 0
    peer, address = server.accept()
    peer.close()
    assert address == source


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """A listener that takes no more: a connect to it hangs until one is accepted."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(2):
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(listener.getsockname())
    return listener, waiting


@pytest.mark.spec("RING-7", "CONNECT-10", "RELEASE-1", "RING-15")
@pytest.mark.erratum("E-CONN-SYNC", "E-ORDER")
def test_a_connect_under_way_delays_nothing_and_a_release_answers_it_first(guest) -> None:
    listener, waiting = full_listener()
    guest.open_socket(7)
    ring = guest.make_data_ring()
    arguments = (7, raw.address(*listener.getsockname()), ref_of(ring), ring.port)
    connecting = guest.send(raw.connect_request, *arguments)
    assert guest.ask(raw.socket_request, 8).ret == 0  # Answered while the connect goes on.
    assert guest.ask(raw.connect_request, *arguments).ret == -114
    before = guest.commands["rsp_prod"]
    assert guest.ask(raw.release_request, 7).ret == 0
    assert guest.await_response(connecting).ret == EBADF
    first, second = (raw.RawResponse(guest.commands.slot(before + n)) for n in range(2))
    assert (first.cmd, second.cmd) == (raw.CONNECT, raw.RELEASE)
    for each in (listener, *waiting):
        each.close()


@pytest.mark.spec("CONNECT-17")
@pytest.mark.security("SEC-B-24")
def test_a_connect_nobody_answers_times_out_and_connects_under_way_are_bounded(machine) -> None:
    machine.serve(limits=Limits(connect_seconds=0.2, pending_connects=1))
    guest = machine.guest()
    listener, waiting = full_listener()
    guest.open_socket(7)
    guest.open_socket(8)
    ring = guest.make_data_ring()
    where = (raw.address(*listener.getsockname()), ref_of(ring), ring.port)
    connecting = guest.send(raw.connect_request, 7, *where)
    assert guest.ask(raw.connect_request, 8, *where).ret == -105
    assert guest.await_response(connecting).ret == -110
    for each in (listener, *waiting):
        each.close()


@pytest.mark.spec("RAT-4")
@pytest.mark.security("SEC-B-15")
def test_the_policy_refuses_before_anything_is_done_and_says_which_rule(machine, server, record) -> None:
    machine.serve(policy=Policy([Rule.parse("bind:any:0", allow=False)]), observer=record)
    guest = machine.guest()
    guest.open_socket(7)
    address = raw.address(*server.getsockname())
    assert guest.ask(raw.connect_request, 7, address, 8, 2).ret == -13
    assert guest.ask(raw.bind_request, 7, raw.address("0.0.0.0", 0)).ret == -13
    reasons = [event[3] for event in record.events if event[0] == "response" and event[2] == -13]
    assert ["own services" in reasons[0], "rule 'bind:any:0' denies it" in reasons[1]] == [True, True]


@pytest.mark.spec("RAT-7")
@pytest.mark.security("SEC-B-15")
def test_by_default_guests_reach_each_other_over_the_backends_loopback(machine) -> None:
    machine.serve(policy=Policy())
    one, other = machine.guest(), machine.guest()
    address = one.listening(1)
    waiting, ring = one.accept(1, 2)
    theirs = other.connected(5, address)
    assert one.await_response(waiting).ret == 0
    other.put(theirs, b"from guest to guest")
    assert one.take(ring, 19) == b"from guest to guest"


@pytest.mark.security("SEC-B-15")
def test_a_guest_that_listens_beside_a_service_of_the_hosts_opens_it_to_nobody(machine, server) -> None:
    machine.serve(policy=Policy())
    guest, other = machine.guest(), machine.guest()
    host, port_number = server.getsockname()
    beside = ("127.0.0.2", port_number)
    guest.open_socket(1)
    assert guest.ask(raw.bind_request, 1, raw.address(*beside)).ret == 0
    assert guest.ask(raw.listen_request, 1).ret == 0
    other.connected(4, beside)
    for each in (guest, other):
        each.open_socket(9)
        ring = each.make_data_ring()
        for name in (host, "0.0.0.0", "127.0.0.3"):
            request = (raw.connect_request, 9, raw.address(name, port_number), ref_of(ring), ring.port)
            assert each.ask(*request).ret == -13, name
    assert guest.ask(raw.release_request, 1).ret == 0
    ring = other.make_data_ring()
    assert other.ask(raw.connect_request, 9, raw.address(*beside), ref_of(ring), ring.port).ret == -13


@pytest.mark.security("SEC-B-15")
@pytest.mark.parametrize(("raised", "ret"), [(OSError(24, "no descriptor"), -24), (KeyError("a bug"), -13)])
def test_a_call_that_cannot_be_decided_is_refused_and_the_others_go_on(machine, server, raised, ret, record) -> None:
    class Failing(Policy):
        def may_object_to(self, call: str) -> bool:
            return call == "connect"

        def decide(self, call: Call, **more: object) -> Decision:
            raise raised

    machine.serve(policy=Failing(), observer=record)
    guest = machine.guest()
    guest.open_socket(7)
    ring = guest.make_data_ring()
    where = (raw.address(*server.getsockname()), ref_of(ring), ring.port)
    assert guest.ask(raw.connect_request, 7, *where).ret == ret
    assert any("cannot be decided" in event[3] for event in record.events if event[0] == "response")
    assert guest.ask(raw.release_request, 7).ret == 0


# Release of active sockets.


@pytest.mark.spec("IDX-1")
@pytest.mark.erratum("E-WRONGSTATE")
def test_a_connected_socket_has_its_one_data_ring_and_gets_no_other(guest, server) -> None:
    ring = guest.connected(7, server.getsockname())
    peer, _ = server.accept()
    other = guest.make_data_ring()
    with peer:
        answer = guest.ask(raw.connect_request, 7, raw.address(*server.getsockname()), ref_of(other), other.port)
        assert answer.ret == EISCONN
        guest.put(ring, b"there")
        assert peer.recv(9) == b"there"
        peer.sendall(b"and back")
        assert guest.take(ring, 8) == b"and back"
    assert other.indexes["in_prod"] == 0


@pytest.mark.spec("RELEASE-3", "RELEASE-10", "CONNECT-11")
@pytest.mark.erratum("E-REUSE")
@pytest.mark.security("SEC-B-23")
@pytest.mark.parametrize("reuse", [0, 1])
def test_a_released_ring_is_let_go_of_and_the_same_ref_and_channel_serve_again(
    machine, guest, server, reuse: int
) -> None:
    before = machine.held()
    ring = guest.connected(7, server.getsockname())
    server.accept()[0].close()
    assert machine.held() == (before[0] + 1 + 2, before[1] + 1)
    assert guest.ask(raw.release_request, 7, reuse).ret == 0
    assert machine.held() == before
    for name in ("in_cons", "in_prod", "in_error", "out_cons", "out_prod", "out_error"):
        ring.indexes[name] = 0
    guest.open_socket(8)
    answer = guest.ask(raw.connect_request, 8, raw.address(*server.getsockname()), ref_of(ring), ring.port)
    assert answer.ret == 0
    peer, _ = server.accept()
    with peer:
        guest.put(ring, b"again")
        assert peer.recv(9) == b"again"


@pytest.mark.spec("RELEASE-4")
def test_release_takes_the_documents_steps_in_order(machine, server, record) -> None:
    machine.serve(observer=record)
    guest = machine.guest()
    guest.connected(7, server.getsockname())
    record.events.clear()
    assert guest.ask(raw.release_request, 7).ret == 0
    assert record.of("step", guest.platform.domid)[3:] == [
        "CloseSocket", "UnmapDataRing", "UnmapIndexesPage", "UnbindEventChannel", "ForgetSocket",
    ]  # fmt: skip


@pytest.mark.spec("RELEASE-1", "IDXPAGE-9")
@pytest.mark.erratum("E-SENDCLOSE")
def test_what_was_put_into_out_before_release_arrives(guest, server) -> None:
    for id in range(20):
        ring = guest.connected(id, server.getsockname())
        peer, _ = server.accept()
        ring.produce("out", b"last words")
        guest.platform.fences.full()
        assert guest.ask(raw.release_request, id).ret == 0  # With no notification of the data at all.
        with peer:
            assert peer.recv(50) == b"last words"
            assert peer.recv(50) == b""


@pytest.mark.erratum("E-SENDCLOSE")
@pytest.mark.security("SEC-B-13")
def test_a_release_whose_peer_takes_nothing_is_answered_within_its_time(machine, server) -> None:
    machine.serve(limits=Limits(drain_seconds=0.2))
    guest = machine.guest()
    ring = guest.connected(7, server.getsockname(), order=9)
    peer, _ = server.accept()
    with peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        guest.fill_out(ring)
        assert guest.ask(raw.release_request, 7).ret == 0
