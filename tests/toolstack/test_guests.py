"""The object that looks after all guests: devices for the new, nothing left of the dead."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from refimpl.errors import StoreConflict, StoreError, StoreLost
from refimpl.store.client import StoreClient
from refimpl.toolstack import Change, Toolstack, attach, detach, devices, guests

PATIENCE = 60.0


class Bell:
    """Woken by the toolstack."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(PATIENCE), "the toolstack did not ask to be called"
        self._event.clear()


@pytest.fixture
def bell() -> Bell:
    return Bell()


def handle_until(toolstack: Toolstack, bell: Bell, wanted: list[Change]) -> None:
    """Call the toolstack when it asks for it, until it has made just these changes."""
    made: list[Change] = []
    while True:
        made += toolstack.handle()
        assert made == wanted[: len(made)]
        if made == wanted:
            return
        bell.wait()


def test_each_new_guest_gets_a_device(store, store_server, bell) -> None:
    with closing(Toolstack(store, wake=bell.ring)) as toolstack:
        handle_until(toolstack, bell, [Change("attached", 1), Change("attached", 2)])
        assert toolstack.handle() == []
        bell.wait()
        store_server.introduce(5)
        store.write("/local/domain/5", b"")
        handle_until(toolstack, bell, [Change("attached", 5)])
    assert [device.frontend_id for device in devices(store)] == [1, 2, 5]
    assert store.get_permissions("/local/domain/5/data") == ["n5"]


def test_nothing_is_left_of_a_dead_guest(store, store_server, bell, obedient_backend, dump_of) -> None:
    with closing(Toolstack(store, wake=bell.ring)) as toolstack:
        handle_until(toolstack, bell, [Change("attached", 1), Change("attached", 2)])
        obedient_backend("/local/domain/0/backend/pvcalls/1/0")
        store_server.kill_domain(1)
        handle_until(toolstack, bell, [Change("removed", 1)])
        assert toolstack.seconds_left() is None
    nodes = dump_of(store)
    assert not [path for path in nodes if path.startswith(("/local/domain/1", "/libxl/1"))]
    assert [device.frontend_id for device in devices(store)] == [2]


def test_a_backend_that_does_not_close_delays_nobody_else(store, store_server, bell, obedient_backend) -> None:
    with closing(Toolstack(store, wake=bell.ring)) as toolstack:
        handle_until(toolstack, bell, [Change("attached", 1), Change("attached", 2)])
        obedient_backend("/local/domain/0/backend/pvcalls/2/0")
        for domid in (1, 2):
            store_server.kill_domain(domid)
        handle_until(toolstack, bell, [Change("removed", 2)])
        left = toolstack.seconds_left()
        assert left is not None
        assert 0 <= left <= guests.REMOVAL_SECONDS


def test_a_backend_that_never_closes_is_not_waited_for_beyond_the_deadline(
    store, store_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guests, "REMOVAL_SECONDS", 0.02)
    with closing(Toolstack(store)) as toolstack:
        changes: list[Change] = []
        done = threading.Event()

        def report(change: Change) -> None:
            changes.append(change)
            if change.what == "removed":
                done.set()

        thread = threading.Thread(target=toolstack.run, args=(report,))
        thread.start()
        while len(devices(store)) < 2:
            pass
        store_server.kill_domain(1)
        assert done.wait(PATIENCE)
        toolstack.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert Change("removed", 1) in changes


def test_devices_made_and_removed_by_hand_are_respected(store, store_server, bell) -> None:
    attach(store, 1)
    with closing(Toolstack(store, wake=bell.ring)) as toolstack:
        handle_until(toolstack, bell, [Change("attached", 2)])
        detach(store, 2, force=True, timeout=0)
        store_server.introduce(5)
        store.write("/local/domain/5", b"")
        handle_until(toolstack, bell, [Change("attached", 5)])
        assert [device.frontend_id for device in devices(store)] == [1, 5]
        store_server.kill_domain(2)
        handle_until(toolstack, bell, [Change("removed", 2)])


def test_a_toolstack_that_starts_again_takes_over(store, store_server, bell, obedient_backend) -> None:
    with closing(Toolstack(store, wake=bell.ring)) as toolstack:
        handle_until(toolstack, bell, [Change("attached", 1), Change("attached", 2)])
    obedient_backend("/local/domain/0/backend/pvcalls/1/0")
    store_server.kill_domain(1)
    while store.is_introduced(1):
        pass
    with closing(Toolstack(store, wake=bell.ring)) as toolstack:
        handle_until(toolstack, bell, [Change("removed", 1)])


def test_numbers_from_elsewhere_count_once_they_are_introduced(store, store_server, bell) -> None:
    store.remove("/local/domain")
    with closing(Toolstack(store, wake=bell.ring, list_domains=lambda store: [0, 2, 7, 32000])) as toolstack:
        assert toolstack.handle() == [Change("attached", 2)]
        bell.wait()
        store_server.introduce(7)
        handle_until(toolstack, bell, [Change("attached", 7)])
    assert store.get_permissions("/local/domain/7") == ["n0", "r7"]
    assert store.read("/local/domain/0/name") == b"Domain-0"


def test_a_refused_step_is_tried_again(store, bell, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals: list[StoreError] = [StoreConflict("EAGAIN"), StoreError("EIO")]

    def attach_at_the_third_time(*arguments: object) -> None:
        if refusals:
            raise refusals.pop()
        attach(*arguments)

    monkeypatch.setattr(guests, "attach", attach_at_the_third_time)
    with closing(Toolstack(store, wake=bell.ring, list_domains=lambda store: [1])) as toolstack:
        for _ in range(2):
            assert toolstack.handle() == []
            assert toolstack.seconds_left() is not None
        assert toolstack.handle() == [Change("attached", 1)]
        assert toolstack.seconds_left() is None


def test_the_loss_of_the_store_comes_out_of_run(store_server) -> None:
    with closing(StoreClient.connect(store_server.path, timeout=PATIENCE)) as store:
        toolstack = Toolstack(store)
        outcome: list[BaseException] = []

        def run() -> None:
            try:
                toolstack.run()
            except StoreLost as lost:
                outcome.append(lost)

        thread = threading.Thread(target=run)
        thread.start()
        store_server.close()
        thread.join(PATIENCE)
        assert outcome
        toolstack.close()


def test_close_in_a_signal_s_handler_in_the_middle_of_a_request(store, monkeypatch: pytest.MonkeyPatch) -> None:
    toolstack = Toolstack(store)
    original = guests.attach

    def attach_interrupted(*arguments: object) -> object:
        with store._router.send_lock:  # Held by the very thread that the signal interrupts.
            toolstack.close()
        return original(*arguments)

    monkeypatch.setattr(guests, "attach", attach_interrupted)
    toolstack.run()
    assert [device.frontend_id for device in devices(store)] == [1, 2]
    assert not store._router.watches._by_token
