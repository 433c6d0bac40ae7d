"""Event channels into the loop: nothing lost, and a storm costs its sender."""

from __future__ import annotations

import itertools
import threading

import pytest

from refimpl.backend.upcalls import FIRST_DELAY_SECONDS, FREE_USELESS_EVENTS, LONGEST_DELAY_SECONDS, _Port
from refimpl.testing import raw


@pytest.fixture(params=[True, False], ids=["by descriptor", "by thread"])
def selectable(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.mark.security("SEC-B-14")
def test_useless_events_are_free_for_a_while_and_then_cost_more_and_more() -> None:
    port = _Port(lambda: False)
    delays = [port.delay_after_useless_event() for _ in range(FREE_USELESS_EVENTS + 12)]
    assert delays[:FREE_USELESS_EVENTS] == [0.0] * FREE_USELESS_EVENTS
    dear = delays[FREE_USELESS_EVENTS:]
    assert dear[0] == FIRST_DELAY_SECONDS
    assert all(later == min(earlier * 2, LONGEST_DELAY_SECONDS) for earlier, later in itertools.pairwise(dear))
    assert dear[-1] == LONGEST_DELAY_SECONDS


@pytest.mark.security("SEC-B-14")
def test_a_storm_of_one_guest_is_not_followed_and_the_other_is_served(machine, server) -> None:
    machine.serve()
    storming, honest = machine.guest(), machine.guest()
    ring = storming.connected(7, server.getsockname())
    stop = threading.Event()
    notified = [0]

    def storm() -> None:
        while not stop.is_set():
            storming.platform.notify(ring.port)
            storming.platform.notify(storming.port)
            notified[0] += 2

    before = machine.backend._services.upcalls.received
    thread = threading.Thread(target=storm)
    thread.start()
    for id in range(300):
        assert honest.ask(raw.socket_request, id).ret == 0
    stop.set()
    thread.join()
    followed = machine.backend._services.upcalls.received - before
    assert notified[0] > 1000
    assert followed < 300 + notified[0] / 2


def test_after_a_storm_work_is_still_done(machine, server) -> None:
    guest = machine.guest()
    ring = guest.connected(7, server.getsockname())
    peer, _ = server.accept()
    for _ in range(2000):
        guest.platform.notify(ring.port)
    with peer:
        guest.put(ring, b"after the storm")
        assert peer.recv(50) == b"after the storm"


def test_a_port_that_fires_before_or_after_it_is_looked_after_is_rearmed(machine) -> None:
    guest = machine.guest()
    upcalls = machine.backend._services.upcalls
    theirs = guest.platform.allocate_unbound(0)
    ours = machine.platform.bind(guest.platform.domid, theirs)
    seen = threading.Event()
    guest.platform.notify(theirs)  # Nobody looks after it yet.
    guest.turn()
    upcalls.attach(ours, lambda: seen.set() or True)
    guest.platform.notify(theirs)
    assert seen.wait(30)
    upcalls.detach(ours)
    machine.platform.close_port(ours)
    upcalls.detach(ours)
