"""The backend's way through the XenBus states, and what it makes of guests and toolstacks of every kind."""

from __future__ import annotations

import socket
import threading

import pytest

from refimpl.backend import Backend, Limits, Settings
from refimpl.backend.observer import Observer
from refimpl.errors import StoreLost, StoreNoEntry
from refimpl.testing import raw
from refimpl.toolstack import attach, detach

INITIALISING, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED = range(1, 7)


def backend_path(guest, device: int = 0) -> str:
    return f"/local/domain/0/backend/pvcalls/{guest.platform.domid}/{device}"


def error_of(machine, guest, device: int = 0) -> bytes:
    return machine.store.read(f"/local/domain/0/error/backend/pvcalls/{guest.platform.domid}/{device}/error")


def await_removal(store, path: str) -> None:
    changed = threading.Event()
    watch = store.watch(path, lambda _path: changed.set())
    while store.read_or_none(path) is not None:
        assert changed.wait(30)
        changed.clear()
    watch.cancel()


# Start.


@pytest.mark.spec("STATE-2", "STATE-5", "BNODE-8", "XS-1")
def test_the_handshake_takes_the_documents_states_and_publishes_before_initwait(machine) -> None:
    guest = machine.add_guest()
    path, names = backend_path(guest), ("versions", "max-page-order", "function-calls")

    class NodesInEachState(Observer):
        """Looks at each state just before it is written."""

        def __init__(self) -> None:
            self.seen: list[tuple[int, list[bytes | None]]] = []

        def state_changed(self, guest: int, state: int) -> None:
            self.seen.append((int(state), [machine.store.read_or_none(f"{path}/{name}") for name in names]))

    observer = NodesInEachState()
    machine.serve(observer=observer, max_ring_order=7)
    guest.connect()
    assert observer.seen == [(INIT_WAIT, [b"1", b"7", b"1"]), (CONNECTED, [b"1", b"7", b"1"])]


@pytest.mark.parametrize("draft_nodes", [True, False])
def test_the_drafts_nodes_are_published_unless_switched_off(machine, draft_nodes: bool) -> None:
    machine.serve(draft_nodes=draft_nodes)
    guest = machine.add_guest()
    guest.await_state(INIT_WAIT)
    drafts = ("version", "max-dataring-page-order", "networking-calls")
    found = [machine.store.read_or_none(f"{backend_path(guest)}/{name}") for name in drafts]
    assert found == ([b"1", b"9", b"1"] if draft_nodes else [None, None, None])


@pytest.mark.erratum("E-VERSION-CHECK")
def test_a_draft_v5_guest_and_a_published_one_are_served_at_once(machine, server) -> None:
    draft = machine.add_guest()
    machine.serve()
    draft.await_state(INIT_WAIT)
    draft.write_node("ring-ref", draft.ring_ref)
    draft.write_node("port", draft.port)
    draft.set_state(INITIALISED)
    draft.await_state(CONNECTED)
    draft.set_state(CONNECTED)
    published = machine.guest()
    for guest in (draft, published):
        ring = guest.connected(7, server.getsockname())
        peer, _ = server.accept()
        with peer:
            guest.put(ring, b"hello")
            assert peer.recv(9) == b"hello"


@pytest.mark.erratum("E-OFFSET")
@pytest.mark.parametrize(("layout", "order_at", "ref_at"), [("A", 24, 28), ("B", 76, 80)])
@pytest.mark.parametrize("switched_on", [True, False])
def test_draft_pages_are_taken_only_when_switched_on(machine, server, layout, order_at, ref_at, switched_on) -> None:
    machine.serve(draft_layouts=switched_on)
    guest = machine.guest()
    guest.open_socket(7)
    ring = guest.make_data_ring()
    refs = ring.indexes.refs(2)
    for offset in (128, 132, 136):
        ring.indexes.set_word(offset, 0)
    ring.indexes.set_word(order_at, 1)
    for place, ref in enumerate(refs):
        ring.indexes.set_word(ref_at + 4 * place, ref)
    answer = guest.ask(raw.connect_request, 7, raw.address(*server.getsockname()), ring.held[0].refs[0], ring.port)
    assert answer.ret == (0 if switched_on else -22)
    if switched_on:
        peer, _ = server.accept()
        out_prod, in_prod, in_error = {"A": (12, 4, 16), "B": (68, 4, 8)}[layout]
        with peer:
            ring.write("out", 0, b"draft")
            ring.indexes.set_word(out_prod, 5)
            guest.notify(ring.port)
            assert peer.recv(9) == b"draft"
            peer.sendall(b"ok")
            guest.await_turns(lambda: ring.indexes.word(in_prod) == 2)
        ring.indexes.set_word(0, 2)
        guest.notify(ring.port)
        guest.await_turns(lambda: ring.indexes.word(in_error) == 2**32 - 107)


@pytest.mark.spec("STATE-4", "FNODE-3", "FNODE-4")
@pytest.mark.erratum("E-PORTNAME")
@pytest.mark.security("SEC-B-17")
@pytest.mark.parametrize(
    "nodes",
    [
        {"port": b"1_0"}, {"port": b" 7"}, {"port": b"+7"}, {"port": b"0x7"}, {"port": b""}, {"port": b"9" * 1500},
        {"port": b"7\xff"}, {"ring-ref": b"-1"}, {"ring-ref": b"4294967296"}, {"version": b"2"},
        {"ring-ref": 999999}, {"port": 4096},
    ],
)  # fmt: skip
def test_hostile_nodes_close_that_device_with_a_reason(machine, nodes) -> None:
    machine.serve()
    guest = machine.add_guest()
    guest.await_state(INIT_WAIT)
    for name, value in {"version": b"1", "ring-ref": guest.ring_ref, "port": guest.port, **nodes}.items():
        guest.write_node(name, value)
    guest.set_state(INITIALISED)
    guest.await_state(CLOSING)
    assert len(error_of(machine, guest)) > 10
    assert machine.guest().ask(raw.socket_request, 1).ret == 0


@pytest.mark.spec("STATE-4")
def test_nodes_changed_after_connecting_change_nothing(machine) -> None:
    guest = machine.guest()
    guest.write_node("port", 9999)
    guest.write_node("ring-ref", b"rubbish")
    assert guest.ask(raw.socket_request, 1).ret == 0


@pytest.mark.security("SEC-B-17", "SEC-B-18")
@pytest.mark.parametrize("state", [b"0", b"7", b"99", b"", b"closing", b"\xff" * 100])
def test_a_state_that_is_none_closes_the_device(machine, state: bytes) -> None:
    guest = machine.guest()
    guest.set_state(state)
    guest.await_state(CLOSING)


@pytest.mark.spec("XS-4")
@pytest.mark.erratum("E-DEVID")
def test_a_second_device_of_a_guest_is_closed_and_the_first_goes_on(machine) -> None:
    guest = machine.guest()
    attach(machine.store, guest.platform.domid, device_id=1, allow_several=True)
    changed = threading.Event()
    path = f"{backend_path(guest, 1)}/state"
    watch = machine.store.watch(path, lambda _path: changed.set())
    while machine.store.read(path) != b"6":
        assert changed.wait(30)
        changed.clear()
    watch.cancel()
    assert b"already" in error_of(machine, guest, 1)
    assert guest.ask(raw.socket_request, 1).ret == 0


# End.


@pytest.mark.spec("STATE-9", "STATE-11")
@pytest.mark.security("SEC-B-19")
def test_the_shutdown_lets_go_of_everything_before_it_says_closing(machine, server) -> None:
    class HeldInEachState(Observer):
        def __init__(self) -> None:
            self.seen: list[tuple[int, tuple[int, int]]] = []

        def state_changed(self, guest: int, state: int) -> None:
            self.seen.append((int(state), machine.held()))

    observer = HeldInEachState()
    machine.serve(observer=observer)
    guest = machine.guest()
    guest.connected(7, server.getsockname())
    peer, _ = server.accept()
    assert machine.held() == (1 + 1 + 2, 2)  # The commands ring, an indexes page, its data ring; a port for each ring.
    guest.set_state(CLOSING)
    guest.await_state(CLOSING)
    with peer:
        assert peer.recv(1) == b""
    guest.set_state(CLOSED)
    guest.await_state(CLOSED)
    assert observer.seen == [(INIT_WAIT, (0, 0)), (CONNECTED, (1, 1)), (CLOSING, (0, 0)), (CLOSED, (0, 0))]


@pytest.mark.erratum("E-PENDING-CLOSE")
def test_nothing_is_answered_after_leaving_connected(machine) -> None:
    guest = machine.guest()
    guest.listening(1)
    waiting, _ring = guest.accept(1, 2)
    guest.turn()
    answered = guest.commands["rsp_prod"]
    guest.set_state(CLOSING)
    guest.await_state(CLOSING)
    assert guest.commands["rsp_prod"] == answered
    assert not any(a.req_id == waiting for a in guest._early)


@pytest.mark.spec("STATE-12", "CONNECT-12")
@pytest.mark.erratum("E-FASTCLOSE", "E-RECONNECT")
@pytest.mark.security("SEC-B-19")
def test_a_frontend_may_close_at_once_and_start_anew(machine, server, record) -> None:
    machine.serve(observer=record)
    guest = machine.guest()
    guest.connected(7, server.getsockname())
    peer, _ = server.accept()
    guest.set_state(CLOSED)
    guest.await_state(CLOSED)
    with peer:
        assert peer.recv(1) == b""
    again = type(guest)(guest.platform)
    with again:
        again.set_state(INITIALISING)
        again.connect()
        again.open_socket(7)  # Ids of the earlier life are forgotten.
    expected = [INIT_WAIT, CONNECTED, CLOSING, CLOSED, INIT_WAIT, CONNECTED]
    assert record.of("state", guest.platform.domid) == expected


@pytest.mark.spec("STATE-12")
@pytest.mark.erratum("E-FASTCLOSE")
@pytest.mark.security("SEC-B-19")
def test_a_guest_that_is_gone_is_let_go_of(machine, server) -> None:
    guest = machine.guest()
    guest.connected(7, server.getsockname())
    peer, _ = server.accept()
    peer.settimeout(30)
    guest.platform.close()
    with peer:
        assert peer.recv(1) == b""


@pytest.mark.erratum("E-BCLOSE")
@pytest.mark.spec("XS-2")
def test_a_device_detached_while_connected_closes_in_order(machine, server) -> None:
    guest = machine.guest()
    guest.connected(7, server.getsockname())
    peer, _ = server.accept()
    remover = threading.Thread(target=detach, args=(machine.store, guest.platform.domid))
    remover.start()
    guest.await_state(CLOSING)
    with peer:
        assert peer.recv(1) == b""
    guest.set_state(CLOSED)
    remover.join()
    with pytest.raises(StoreNoEntry):
        machine.store.read(f"{backend_path(guest)}/state")


@pytest.mark.erratum("E-BCLOSE")
@pytest.mark.security("SEC-B-19")
def test_a_frontend_that_will_not_close_is_not_waited_for_for_ever(machine) -> None:
    machine.serve(limits=Limits(closing_seconds=0.1))
    guest = machine.guest()
    detach(machine.store, guest.platform.domid)
    assert machine.store.read_or_none(f"{backend_path(guest)}/state") is None


@pytest.mark.erratum("E-BCLOSE")
def test_a_device_detached_before_it_ever_connected_is_closed_at_once(machine) -> None:
    machine.serve()
    guest = machine.add_guest()
    guest.await_state(INIT_WAIT)
    detach(machine.store, guest.platform.domid)


def test_a_device_removed_by_force_and_attached_again_is_served_anew(machine) -> None:
    guest = machine.guest()
    detach(machine.store, guest.platform.domid, force=True)
    attach(machine.store, guest.platform.domid)
    with type(guest)(guest.platform) as again:
        again.connect()
        assert again.ask(raw.socket_request, 1).ret == 0


@pytest.mark.security("SEC-B-18")
def test_states_flipped_a_thousand_times_leave_a_backend_that_serves(machine) -> None:
    guest = machine.guest()
    for _ in range(200):
        for state in (CLOSED, INITIALISING, CLOSING, INITIALISED, CONNECTED):
            guest.set_state(state)
    assert machine.guest().ask(raw.socket_request, 1).ret == 0
    guest.set_state(CLOSED)
    guest.await_state(CLOSED)


# The backend's own life.


@pytest.mark.erratum("E-BCLOSE", "E-RECONNECT")
def test_a_backend_that_stops_says_so_and_the_next_one_serves_the_same_device(machine) -> None:
    guest = machine.guest()
    machine.backend.stop()
    guest.await_state(CLOSING)
    machine.serve()
    guest.set_state(CLOSED)
    guest.await_state(CLOSED)
    with type(guest)(guest.platform) as again:
        again.set_state(INITIALISING)
        again.connect()
        assert again.ask(raw.socket_request, 1).ret == 0


@pytest.mark.erratum("E-RECONNECT")
def test_a_backend_finds_a_device_left_connected_by_one_that_died(machine) -> None:
    machine.serve()
    guest = machine.add_guest()
    guest.await_state(INIT_WAIT)
    machine.backend.stop()
    machine.store.write(f"{backend_path(guest)}/state", b"4")
    guest.set_state(CONNECTED)
    machine.serve()
    guest.await_state(CLOSING)


def test_statistics_say_what_crossed(machine, server) -> None:
    guest = machine.guest()
    ring = guest.connected(7, server.getsockname())
    peer, _ = server.accept()
    with peer:
        guest.put(ring, b"12345")
        assert peer.recv(9) == b"12345"
        peer.sendall(b"123")
        assert guest.take(ring, 3) == b"123"
        guest.turn()
        sums = machine.backend.statistics()[guest.platform.domid]
    assert (sums.bytes_out, sums.bytes_in) == (5, 3)
    assert sums.commands["CONNECT"] == sums.commands["SOCKET"] == 1


def test_a_lost_store_ends_the_backend_with_an_error(machine) -> None:
    machine.serve()
    thread = machine.backend._thread
    machine.store._router.lose(StoreLost("EIO", "", "its server died"))  # A close of our own would be no loss.
    thread.join(30)
    assert not thread.is_alive()


def test_a_backend_never_started_closes(machine) -> None:
    serving = Backend(machine.platform, Settings())
    serving.stop()
    serving.run()


@pytest.mark.spec("RAT-5")
def test_sockets_are_the_backends_own(machine, server) -> None:
    """The connection's other end is this process, where the backend runs."""
    guest = machine.guest()
    guest.connected(7, server.getsockname())
    peer, address = server.accept()
    with peer, socket.socket() as probe:
        assert address[0] == "127.0.0.1"
        with pytest.raises(OSError):
            probe.bind(address)


def test_backend_holds_its_part_of_the_domain_until_it_has_stopped(machine, monkeypatch):
    held = []

    def hold_backend():
        held.append(True)
        return held.clear

    monkeypatch.setattr(machine.platform, "hold_backend", hold_backend)
    backend = machine.serve()
    assert held
    backend.stop()
    assert not held
