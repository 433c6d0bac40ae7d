"""Rules that show only between two whole ends: what changes under a reader, what floods, what is asked too often."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refimpl.backend import Backend, Limits, Policy, Settings
from refimpl.backend.observer import Observer
from refimpl.shm import ShmPlatform
from refimpl.testing import HostileFrontend, raw
from refimpl.testing.running_host import running_host
from refimpl.toolstack import attach, introduce_domain_nodes

PATIENCE = 30.0
EDGES = (33, 34, 64, 2**16, 2**31 - 1, 2**31, 2**31 + 33, 2**32 - 1)


class Machine:
    """A run with a backend, and hostile guests."""

    def __init__(self, directory: str, stack: contextlib.ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        stack.enter_context(running_host(directory))
        self.zero = stack.enter_context(ShmPlatform.join(directory, domid=0, arena_pages=1024))

    def serve(self, **settings: Any) -> Backend:
        serving = Backend(self.zero, Settings(policy=Policy(allow_everything=True), **settings))
        serving.start()
        self._stack.callback(serving.stop)
        return serving

    def guest(self) -> HostileFrontend:
        platform = self._stack.enter_context(ShmPlatform.join(self._directory, arena_pages=1024))
        introduce_domain_nodes(self.zero.store, platform.domid)
        attach(self.zero.store, platform.domid)
        guest = self._stack.enter_context(HostileFrontend(platform, patience=PATIENCE))
        guest.connect()
        return guest


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="refimpl-"))
    with contextlib.ExitStack() as stack:
        yield Machine(str(folder / "run"), stack)
    shutil.rmtree(folder)


class Rewriter(Observer):
    """Rewrites all slots of a guest's ring at the moment a request has been taken off it."""

    def __init__(self) -> None:
        self.commands: Any = None

    def request_taken(self, guest: int, request: Any) -> None:
        for place in range(raw.SLOTS):
            self.commands.put(place, b"\xff" * raw.SLOT_SIZE)


@pytest.mark.security("SEC-B-2")
@pytest.mark.erratum("E-SLOT")
def test_a_slot_that_changes_once_it_was_taken_changes_nothing(machine: Machine) -> None:
    rewriter = Rewriter()
    machine.serve(observer=rewriter)
    guest = machine.guest()
    rewriter.commands = guest.commands
    for id in range(40):
        answer = guest.call(raw.socket_request(1000 + id, id))
        assert (answer.req_id, answer.cmd, answer.ret, answer.id) == (1000 + id, raw.SOCKET, 0, id)


@pytest.mark.security("SEC-B-1")
@pytest.mark.parametrize("ahead", EDGES)
def test_a_wild_req_prod_closes_its_device_and_no_other(machine: Machine, ahead: int) -> None:
    machine.serve()
    liar, honest = machine.guest(), machine.guest()
    liar.commands["req_prod"] = liar.commands["req_prod"] + ahead
    liar.notify()
    assert liar.await_state(5) == 5
    assert honest.call(raw.socket_request(1, 1)).ret == 0


@pytest.mark.security("SEC-B-6", "SEC-B-4")
def test_a_hundred_thousand_sockets_are_refused_at_the_limit_and_each_is_answered(machine: Machine) -> None:
    machine.serve(limits=Limits(sockets=20))
    guest = machine.guest()
    answers: collections.Counter[int] = collections.Counter()
    open_before = len(os.listdir("/proc/self/fd"))
    for first in range(0, 100_000, 32):
        guest.push(*(raw.socket_request(id, id) for id in range(first, first + 32)))
        taken = guest.await_responses(32)
        assert [answer.req_id for answer in taken] == list(range(first, first + 32))
        answers.update(answer.ret for answer in taken)
        assert len(os.listdir("/proc/self/fd")) < open_before + 100
    assert answers == {0: 20, -24: 99_980}


class States(Observer):
    """Counts the states that the backend goes to."""

    def __init__(self) -> None:
        self.count: collections.Counter[int] = collections.Counter()

    def state_changed(self, guest: int, state: Any) -> None:
        self.count[guest] += 1


@pytest.mark.security("SEC-B-18")
def test_ten_thousand_flips_of_a_state_move_the_backend_seldom_and_another_guest_is_served(machine: Machine) -> None:
    states = States()
    machine.serve(observer=states)
    flipping, honest = machine.guest(), machine.guest()
    began = time.monotonic()

    def flip() -> None:
        for turn in range(10_000):
            flipping.set_state((6, 1, 5, 3, 4)[turn % 5])

    thread = threading.Thread(target=flip)
    thread.start()
    id = 0
    while thread.is_alive():
        id += 1
        assert honest.call(raw.socket_request(id, id)).ret == 0
        assert honest.call(raw.release_request(id, id)).ret == 0
    thread.join()
    seconds = time.monotonic() - began
    # A start over is four states; eight are allowed in a second, and the first second has begun.
    assert states.count[flipping.platform.domid] <= 4 * 8 * (seconds + 2)
    flipping.set_state(6)
    flipping.await_state(6)


@pytest.mark.security("SEC-B-7", "SEC-B-9")
@pytest.mark.erratum("E-ORDER0", "E-MAPFAIL")
@pytest.mark.parametrize("order", [0, 10, 31, 2**31, 2**32 - 1])
def test_no_order_but_those_offered_is_mapped(machine: Machine, order: int) -> None:
    machine.serve()
    guest = machine.guest()
    assert guest.call(raw.socket_request(1, 1)).ret == 0
    ring = guest.make_data_ring(1, ring_order=order)
    listening = raw.address("127.0.0.1", 1)
    assert guest.call(raw.connect_request(2, 1, listening, ring.ref, ring.port)).ret < 0
    assert guest.call(raw.release_request(3, 1)).ret == 0


@pytest.mark.security("SEC-B-14")
def test_events_of_a_storm_are_heard_less_and_less_while_another_guest_is_served(machine: Machine) -> None:
    serving = machine.serve()
    storming, honest = machine.guest(), machine.guest()
    stop, sent = threading.Event(), itertools.count()

    def storm() -> None:
        while not stop.is_set():
            storming.notify()
            next(sent)

    thread = threading.Thread(target=storm)
    thread.start()
    before = serving._services.upcalls.received
    for id in range(200):
        assert honest.call(raw.socket_request(id, id)).ret == 0
    followed = serving._services.upcalls.received - before
    stop.set()
    thread.join()
    assert followed < 200 + max(300, next(sent) / 4)


@pytest.mark.security("SEC-B-3", "SEC-B-5")
def test_what_the_backend_writes_is_not_what_it_goes_by(machine: Machine) -> None:
    machine.serve()
    guest = machine.guest()
    for id in range(70):
        guest.commands["rsp_prod"] = 77 + id
        guest.commands["req_event"] = 2**31 + id
        for place in range(raw.SLOTS):
            guest.commands.put(place, b"\xee" * raw.SLOT_SIZE)
        guest.commands["rsp_event"] = id + 1
        guest.push(raw.socket_request(id, id))
        guest.await_true(lambda id=id: guest.commands["rsp_prod"] == id + 1, "the backend's own index")
        slot = guest.commands.slot(id)
        answer = raw.RawResponse(slot)
        assert (answer.req_id, answer.ret, answer.pad, answer.id) == (id, 0, 0, id)
        assert slot[24:] == raw.socket_request(id, id)[24:]
