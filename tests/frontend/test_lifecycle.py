"""The device's life: brought up from any state, followed, taken down; against a backend that writes any state."""

from __future__ import annotations

import threading

import pytest

from refimpl.errors import DeviceGone, DeviceInUse, GrantRefused, Misuse, PeerViolation, PortRefused
from refimpl.frontend import Frontend
from refimpl.testing import HostileBackend
from refimpl.testing.hostile import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, INITIALISING
from refimpl.toolstack import attach, detach
from refimpl.toolstack.devices import find
from refimpl.toolstack.removal import delete
from refimpl.xenstore.state_machine import XenbusState


class States:
    """Writes down the states that the frontend goes through, in order."""

    def __init__(self):
        self.seen = []

    def __call__(self, event):
        if event.section == "State Machine":
            self.seen.append(event.what.removeprefix("frontend goes to "))


@pytest.mark.spec("STATE-3", "STATE-6", "FNODE-1", "FNODE-3")
@pytest.mark.erratum("E-PROBE-RACE")
def test_it_waits_for_InitWait_before_it_reads_and_for_Connected_before_it_calls(machine, do):
    states, backend = States(), machine.backend()
    opening = do(machine.open, observer=states)
    for state in (INITIALISING, INIT_WAIT):
        assert not opening.is_done
        assert backend.other_node("ring-ref") is None
        if state == INIT_WAIT:
            backend.publish()
        else:
            backend.set_state(state)
    backend.await_state(INITIALISED)
    assert backend.other_node("version") == b"1"
    backend.connect()
    frontend = opening.result()
    assert frontend.state is XenbusState.CONNECTED
    assert states.seen == ["Initialised", "Connected"]
    assert (backend.commands["req_prod"], backend.commands["req_event"]) == (0, 1)
    assert (backend.commands["rsp_prod"], backend.commands["rsp_event"]) == (0, 1)
    backend.set_state(CLOSING)


@pytest.mark.spec("STATE-8", "STATE-10")
def test_close_is_Closing_then_with_the_backend_Closed(pair, do):
    ref, port = (int(pair.backend.other_node(name)) for name in ("ring-ref", "port"))
    closing = do(pair.frontend.close)
    pair.backend.await_state(CLOSING)
    guest = pair.backend.frontend_id
    pair.backend.platform.map(guest, [ref]).unmap()  # Still ours to use.
    pair.backend.set_state(CLOSING)
    closing.result()
    pair.backend.await_state(CLOSED)
    with pytest.raises(GrantRefused):
        pair.backend.platform.map(guest, [ref])
    with pytest.raises(PortRefused):
        pair.backend.platform.bind(guest, port)
    assert pair.frontend.state is XenbusState.CLOSED
    with pytest.raises(DeviceGone, match="the frontend was closed"):
        pair.frontend.socket()
    pair.frontend.close()


@pytest.mark.security("SEC-F-10")
def test_close_does_not_wait_for_ever(paired):
    pair = paired(timeout=0.2)
    ref, port = (int(pair.backend.other_node(name)) for name in ("ring-ref", "port"))
    pair.frontend.close()
    pair.backend.await_state(CLOSED)
    with pytest.raises(GrantRefused):
        pair.backend.platform.map(pair.backend.frontend_id, [ref])
    with pytest.raises(PortRefused):
        pair.backend.platform.bind(pair.backend.frontend_id, port)


@pytest.mark.erratum("E-BCLOSE", "E-FASTCLOSE")
@pytest.mark.security("SEC-F-14")
@pytest.mark.parametrize(
    "state", [INITIALISING, INIT_WAIT, INITIALISED, CLOSING, CLOSED, 0, 7, b"", b"4 ", b"nonsense", None], ids=str
)
def test_whatever_is_not_Connected_is_the_end(pair, state):
    if state is None:
        pair.backend.remove_node("state")
    else:
        pair.backend.set_state(state)
    pair.backend.await_state(CLOSED)
    with pytest.raises(DeviceGone):
        pair.frontend.socket()
    assert not pair.frontend.is_open


@pytest.mark.erratum("E-RECONNECT")
@pytest.mark.parametrize("left_in", [CLOSED, CLOSING, CONNECTED, INITIALISED, INITIALISING])
def test_it_comes_up_from_wherever_an_earlier_frontend_left_it(machine, do, left_in):
    machine.guest.store.write(f"/local/domain/{machine.guest.domid}/device/pvcalls/0/state", b"%d" % left_in)
    backend, states = machine.backend(), States()
    backend.set_state(CONNECTED if left_in != INITIALISING else INITIALISING)
    opening = do(machine.open, observer=states)
    if left_in in (CONNECTED, INITIALISED, CLOSING):
        backend.await_state(CLOSING)
        backend.set_state(CLOSING)
        backend.await_state(CLOSED)
    if left_in != INITIALISING:
        backend.set_state(CLOSED)
        backend.await_state(INITIALISING)
    backend.publish()
    backend.connect()
    assert opening.result().is_open
    assert states.seen[-2:] == ["Initialised", "Connected"]
    backend.set_state(CLOSING)


@pytest.mark.erratum("E-RECONNECT", "E-BCLOSE")
def test_a_backend_that_closes_while_we_come_up_is_followed_once_more(machine, do):
    backend = machine.backend()
    backend.publish()
    opening = do(machine.open)
    backend.await_state(INITIALISED)
    backend.set_state(CLOSING)
    backend.await_state(CLOSED)
    backend.set_state(CLOSED)
    backend.await_state(INITIALISING)
    backend.publish()
    backend.connect()
    assert opening.result().is_open
    backend.set_state(CLOSING)


@pytest.mark.erratum("E-RECONNECT")
def test_it_can_be_opened_again_after_the_backend_was_gone(pair, do):
    pair.connected()
    pair.go_away()
    pair.backend.await_state(CLOSED)
    pair.backend.close()
    pair.backend.set_state(CLOSED)
    reopening = do(pair.machine.open)
    pair.backend.await_state(INITIALISING)
    again = pair.machine.backend()
    again.publish()
    again.connect()
    frontend = reopening.result()
    opening = do(frontend.socket)
    again.answer(again.await_request())
    assert opening.result().id
    again.set_state(CLOSING)


@pytest.mark.spec("XS-4")
def test_a_domain_has_one_frontend(pair):
    with pytest.raises(Misuse, match="open already"):
        Frontend.open(pair.machine.guest)
    assert pair.frontend.is_open


@pytest.mark.spec("XS-4")
def test_a_device_is_opened_by_one_thread_at_a_time(machine, do):
    backend = machine.backend()
    backend.publish()
    opening = do(machine.open)
    backend.await_state(INITIALISED)
    with pytest.raises(Misuse, match="another thread"):
        machine.open()
    backend.connect()
    assert opening.result().is_open
    backend.set_state(CLOSING)


@pytest.mark.erratum("E-FASTCLOSE")
def test_a_backend_domain_that_dies_ends_every_wait(machine, do):
    driver, guest = machine.join(), machine.join()
    attach(machine.zero.store, guest.domid, driver.domid)
    with HostileBackend(driver, guest.domid) as backend:
        backend.publish()
        opening = do(Frontend.open, guest, ring_order=1)
        backend.connect()
        frontend = opening.result()
        opening = do(frontend.socket)
        backend.await_request()
    driver.close()
    with pytest.raises(DeviceGone, match="the backend closed"):
        opening.result()
    frontend.close()


@pytest.mark.spec("XS-4")
@pytest.mark.erratum("E-DEVID")
def test_a_domain_has_one_device(machine):
    attach(machine.zero.store, machine.guest.domid, device_id=1, allow_several=True)
    with pytest.raises(Misuse, match="one PV Calls device"):
        machine.open(device_id=1)


def test_a_domain_without_a_device_says_how_to_get_one(machine):
    detach(machine.zero.store, machine.guest.domid, force=True, timeout=0)
    with pytest.raises(DeviceGone, match="toolstack attach"):
        machine.open()


def test_no_backend_is_said_with_both_states(machine):
    with pytest.raises(TimeoutError, match="it is in Initialising, we are in Initialising"):
        machine.open(timeout=0.05)
    backend = machine.backend()
    backend.publish()
    with pytest.raises(TimeoutError, match="we are in Initialised"):
        machine.open(timeout=0.05)
    backend.await_state(CLOSED)
    with pytest.raises(GrantRefused):
        backend.platform.map(machine.guest.domid, [int(backend.other_node("ring-ref"))])


@pytest.mark.security("SEC-F-12")
@pytest.mark.parametrize(
    "node, value",
    [
        ("backend", b"/local/domain/0/backend/pvcalls/77/0"),
        ("backend", b"/local/domain/5/backend/pvcalls/1/0"),
        ("backend", b"/local/domain/0/backend/vif/1/0"),
        ("backend-id", b"-1"),
        ("backend-id", b"0x0"),
        ("backend-id", b""),
    ],
)
def test_a_backend_is_only_followed_to_where_it_must_be(machine, node, value):
    machine.zero.store.write(f"/local/domain/{machine.guest.domid}/device/pvcalls/0/{node}", value)
    with pytest.raises(PeerViolation) as refused:
        machine.open()
    assert refused.value.field == node


@pytest.mark.spec("BNODE-2", "BNODE-4", "BNODE-6")
@pytest.mark.security("SEC-F-13")
@pytest.mark.parametrize(
    "node, value",
    [
        ("versions", b"2"),
        ("versions", b"10,11"),
        ("versions", b""),
        ("function-calls", b"0"),
        ("function-calls", b"2"),
        ("max-page-order", b"0"),
        ("max-page-order", b"1_0"),
        ("max-page-order", b"9" * 4000),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_backend_we_cannot_talk_to_is_left_alone_and_told_why(machine, node, value):
    backend = machine.backend()
    backend.publish({node: value[:2000]})
    with pytest.raises(PeerViolation) as refused:
        machine.open()
    assert refused.value.field == node
    backend.await_state(CLOSED)
    assert backend.other_node("ring-ref") is None
    said = machine.zero.store.read(f"/local/domain/{machine.guest.domid}/error/device/pvcalls/0/error")
    assert node.encode() in said


@pytest.mark.spec("IDXPAGE-4", "BNODE-3")
@pytest.mark.erratum("E-MAXORDER")
@pytest.mark.parametrize("wanted, offered, found", [(3, b"2", 2), (2, b"9", 2), (4, b"4294967295", 4), (None, b"1", 1)])
def test_the_ring_is_no_larger_than_offered(machine, do, wanted, offered, found):
    backend = machine.backend()
    backend.publish({"max-page-order": offered})
    opening = do(machine.open, ring_order=wanted)
    backend.connect()
    frontend = opening.result()
    opening = do(frontend.socket)
    backend.answer(backend.await_request())
    socket = opening.result()
    do(socket.connect, ("192.0.2.1", 80))
    ring = backend.map_data_ring(backend.await_request())
    assert ring.indexes["ring_order"] == found
    assert len(ring.data) == 4096 << found
    backend.set_state(CLOSING)


@pytest.mark.spec("IDXPAGE-5", "IDXPAGE-19")
@pytest.mark.parametrize("order", [0, -1, 10])
def test_a_ring_order_that_cannot_be_is_refused(machine, order):
    with pytest.raises(Misuse, match="ring_order"):
        machine.open(ring_order=order)


def test_a_draft_backend_is_served_by_its_own_names(machine, do):
    backend = machine.backend()
    for name, value in (("version", b"1"), ("max-dataring-page-order", b"6"), ("state", b"2")):
        backend.write_node(name, value)
    opening = do(machine.open, ring_order=9)
    backend.connect()
    assert opening.result()._device.ring_order == 6
    backend.set_state(CLOSING)


def test_a_removed_device_stays_removed(pair, do):
    store, guest = pair.machine.zero.store, pair.machine.guest.domid
    removing = do(detach, store, guest)
    pair.backend.await_state(CLOSED)
    pair.backend.set_state(CLOSED)
    removing.result()
    with pytest.raises(DeviceGone):
        pair.frontend.socket()
    pair.frontend.close()
    assert store.read_or_none(f"/local/domain/{guest}/device/pvcalls/0/state") is None


@pytest.mark.erratum("E-SUSPEND")
def test_a_device_made_anew_ends_its_sockets_and_can_be_opened(pair, do):
    """Such is what a domain finds after it was restored: all nodes as the toolstack makes them."""
    machine, guest = pair.machine, pair.machine.guest.domid
    socket, _ring = pair.connected()
    receiving, listener = do(socket.recv, 100), pair.listening()
    accepting = do(listener.accept)
    delete(machine.zero.store, find(machine.zero.store, guest))
    attach(machine.zero.store, guest)
    for ended in (receiving, accepting):
        with pytest.raises(DeviceGone, match="made anew"):
            ended.result()
    assert pair.frontend._device.live_rings() == []

    backend = machine.backend()
    backend.publish()
    opening = do(machine.open)
    backend.await_state(INITIALISED)
    backend.connect()
    opening.result()
    backend.set_state(CLOSING)


def test_a_lost_store_is_the_end_of_the_device(pair):
    ended = threading.Event()
    pair.machine.guest.store.on_lost(ended.set)
    pair.machine.hosting.close()
    assert ended.wait(30)
    pair.until(lambda: not pair.frontend.is_open)
    with pytest.raises(DeviceGone):
        pair.frontend.socket()


@pytest.mark.erratum("E-FASTCLOSE")
def test_states_that_flap_end_it_once(pair):
    socket, _ring = pair.connected()
    for state in (CLOSING, CONNECTED, INIT_WAIT, CONNECTED) * 25:
        pair.backend.set_state(state)
    pair.backend.set_state(CLOSED)
    pair.backend.await_state(CLOSED)
    with pytest.raises(DeviceGone):
        socket.recv(1)


@pytest.fixture
def holders(machine, monkeypatch):
    """How many hold the guest's device, where the platform can tell processes of a domain apart."""
    held = []

    def hold_frontend(device_id=0):
        if held:
            raise DeviceInUse(f"pvcalls-frontend-{device_id}", 1)
        held.append(device_id)
        return held.clear

    monkeypatch.setattr(machine.guest, "hold_frontend", hold_frontend)
    return held


def test_device_is_held_until_it_is_closed(machine, holders, paired):
    pair = paired()
    assert holders == [0]
    pair.go_away()
    pair.frontend.close()
    assert not holders


def test_device_held_by_another_process_is_left_alone(machine, holders):
    holders.append(0)
    with pytest.raises(DeviceInUse, match="process 1 holds"):
        machine.open()
    assert machine.zero.store.read(f"/local/domain/{machine.guest.domid}/device/pvcalls/0/state") == b"1"


def test_device_that_could_not_be_brought_up_is_let_go(machine, holders):
    with pytest.raises(TimeoutError):
        machine.open(timeout=0.05)
    assert not holders
