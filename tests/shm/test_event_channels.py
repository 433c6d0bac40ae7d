"""Event channels: bytes, masks and posts. What any platform must do is in test_conformance.py."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

import posix_ipc
import pytest

from refimpl.errors import DomainClosed, Misuse, PortRefused
from refimpl.shm import ShmPlatform
from refimpl.shm.channels import HELD, PENDING, QUIET
from refimpl.shm.segments import DOMID_COUNT, PORT_COUNT

PATIENCE = 30.0


@pytest.fixture
def pair(run):
    return run.join(0), run.join()


def channel(one: ShmPlatform, other: ShmPlatform) -> tuple[int, int]:
    """Bind a channel, and take the event that comes with it."""
    port = one.allocate_unbound(other.domid)
    other_port = other.bind(one.domid, port)
    assert receive(other) == [other_port]
    return port, other_port


def receive(platform: ShmPlatform, timeout: float = PATIENCE) -> list[int]:
    ports = list(platform.wait(timeout))
    for port in ports:
        platform.rearm(port)
    return ports


def posts(platform: ShmPlatform) -> int:
    return platform._domain.wake_up._semaphore.value


def byte(platform: ShmPlatform, port: int) -> int:
    return platform._domain.arena.mapping[port]


def test_notifications_merge_into_one_post(pair) -> None:
    one, other = pair
    port, other_port = channel(one, other)
    for _ in range(1000):
        one.notify(port)
    assert (byte(other, other_port), posts(other)) == (PENDING, 1)
    assert receive(other, 0) == [other_port]
    assert (byte(other, other_port), posts(other)) == (QUIET, 0)
    assert receive(other, 0) == []


def test_storm_on_a_masked_port_costs_one_post_a_rearm(pair) -> None:
    one, other = pair
    port, other_port = channel(one, other)
    one.notify(port)
    assert other.wait(PATIENCE) == [other_port]
    for _ in range(5):
        for _ in range(100):
            one.notify(port)
        assert posts(other) == 1
        assert other.wait(0) == []
        for _ in range(100):
            one.notify(port)
        assert (byte(other, other_port), posts(other)) == (HELD, 0)
        assert other.wait(0.01) == []
        other.rearm(other_port)
        assert posts(other) == 0  # nobody waits: the next wait looks first
        assert other.wait(0) == [other_port]


def test_rearm_in_another_thread_ends_a_wait(pair) -> None:
    one, other = pair
    port, other_port = channel(one, other)
    one.notify(port)
    assert other.wait(PATIENCE) == [other_port]
    one.notify(port)
    assert other.wait(0) == []
    fired: list[int] = []
    waiting = threading.Thread(target=lambda: fired.extend(other.wait(PATIENCE)))
    waiting.start()
    while not other._channels._waiting:
        pass
    other.rearm(other_port)
    waiting.join()
    assert fired == [other_port]


def test_posts_do_not_pile_up(pair) -> None:
    one, other = pair
    channels = [channel(one, other) for _ in range(8)]
    for turn in range(300):
        for port, _ in channels:
            one.notify(port)
            if turn % 7 == 0:
                other.wake()
        assert sorted(receive(other)) == [other_port for _, other_port in channels]
        assert posts(other) <= len(channels)
    assert receive(other, 0) == []
    assert posts(other) == 0


def test_who_posts_for_fun_only_wakes(run, pair) -> None:
    _, other = pair
    prankster = run.spawn()
    prankster.run(f"peer = platform._peers.get({other.domid})")
    prankster.run("for _ in range(100_000): peer.post()")
    for _ in range(20):
        assert list(other.wait(0.02)) == []
    assert posts(other) == 0
    port = other.allocate_unbound(prankster.run("platform.domid"))
    prankster.run(f"peer_port = platform.bind({other.domid}, {port}); platform.notify(peer_port)")
    assert list(other.wait(PATIENCE)) == [port]


@pytest.mark.parametrize("value", [1, 2, 77, 255])
def test_who_scribbles_on_the_bytes_fires_no_port_that_is_not_there(run, pair, value) -> None:
    one, other = pair
    prankster = run.spawn()
    closed, other_closed = channel(one, other)
    other.close_port(other_closed)
    prankster.run(f"peer = platform._peers.get({other.domid})")
    prankster.run(f"peer.pending[:] = bytes([{value}]) * len(peer.pending); peer.post()")
    assert list(other.wait(0.02)) == []
    one.close_port(closed)
    # Ports opened afterwards work.
    port, other_port = channel(one, other)
    one.notify(port)
    assert receive(other) == [other_port]


def test_event_announced_by_one_who_died_before_the_post(run) -> None:
    receiver, sender = run.join(0), run.spawn()
    port = receiver.allocate_unbound(1)
    sender.run(f"port = platform.bind(0, {port})")
    sender.run(f"platform._peers.get(0).pending[{port}] = 1")
    fired: list[int] = []
    waiting = threading.Thread(target=lambda: fired.extend(receiver.wait(None)))
    # The wait begins before the byte is seen: only the sender's death ends it.
    receiver._channels._collect, collect = list, receiver._channels._collect
    waiting.start()
    while not receiver._channels._waiting:
        pass
    receiver._channels._collect = collect
    sender.kill()
    waiting.join(PATIENCE)
    assert fired == [port]


def test_binder_has_an_event_to_look_by(pair) -> None:
    one, other = pair
    port = one.allocate_unbound(other.domid)
    one.notify(port)  # to nobody yet
    other_port = other.bind(one.domid, port)
    assert receive(other) == [other_port]
    assert receive(one, 0) == []


def test_bind_in_another_thread_ends_a_wait(pair) -> None:
    one, other = pair
    port = one.allocate_unbound(other.domid)
    fired: list[int] = []
    waiting = threading.Thread(target=lambda: fired.extend(other.wait(PATIENCE)))
    waiting.start()
    while not other._channels._waiting:
        pass
    other_port = other.bind(one.domid, port)
    waiting.join()
    assert fired == [other_port]


def test_notification_to_a_closed_port_does_not_reach_the_next_of_its_number(pair) -> None:
    one, other = pair
    port, other_port = channel(one, other)
    one.close_port(port)
    assert one.allocate_unbound(other.domid) == port
    other.notify(other_port)
    assert receive(one, 0) == []
    other.close_port(other_port)
    port, other_port = channel(one, other)
    other.close_port(other_port)
    assert other.allocate_unbound(one.domid) == other_port
    one.notify(port)
    assert receive(other, 0) == []


def test_port_let_go_by_its_binder_can_be_bound_again(pair) -> None:
    one, other = pair
    port, other_port = channel(one, other)
    one.notify(port)
    other.close_port(other_port)
    spare = other.allocate_unbound(5)  # takes the number of the closed one
    again = other.bind(one.domid, port)
    assert again != spare == other_port
    assert receive(other) == [again]
    one.notify(port)
    assert receive(other) == [again]
    other.notify(again)
    assert receive(one) == [port]


def test_port_of_a_dead_binder_can_be_bound_by_its_successor(run) -> None:
    guest = run.join()
    backend = run.spawn(0)
    port = guest.allocate_unbound(0)
    backend.run(f"port = platform.bind({guest.domid}, {port})")
    guest.notify(port)
    backend.kill()
    guest.notify(port)
    successor = run.join(0)
    guest.notify(port)
    its_port = successor.bind(guest.domid, port)
    assert receive(successor) == [its_port]
    guest.notify(port)
    assert receive(successor) == [its_port]
    successor.notify(its_port)
    assert receive(guest) == [port]


@pytest.mark.parametrize("remote_port", [-1, 0, PORT_COUNT, 2**32, 2**64])
def test_port_that_cannot_be_is_refused(pair, remote_port) -> None:
    one, other = pair
    with pytest.raises(PortRefused, match="absent") as raised:
        one.bind(other.domid, remote_port)
    assert (raised.value.port, raised.value.remote) == (remote_port, other.domid)


@pytest.mark.parametrize("domid", [-1, DOMID_COUNT, 2**32])
def test_domain_that_cannot_be(pair, domid) -> None:
    one, _ = pair
    with pytest.raises(Misuse, match="there can be no domain"):
        one.allocate_unbound(domid)
    with pytest.raises(PortRefused, match="no such domain"):
        one.bind(domid, 1)


def test_notifying_a_port_not_ours_is_refused(pair) -> None:
    one, other = pair
    port, _ = channel(one, other)
    one.close_port(port)
    one.close_port(port)
    one.rearm(port)
    for absent in (0, port, 77, -1, 2**40):
        with pytest.raises(PortRefused, match="not a port of ours"):
            one.notify(absent)


def test_without_a_hypervisor_known_peers_are_enough(run, pair) -> None:
    one, other = pair
    port, other_port = channel(one, other)
    one.notify(port)
    assert receive(other) == [other_port]
    stranger = run.join()
    offered = one.allocate_unbound(stranger.domid)
    run.stop()
    one.notify(port)
    assert receive(other) == [other_port]
    one.notify(offered)
    with pytest.raises(DomainClosed):
        stranger.bind(one.domid, offered)


def test_second_waiter_is_misuse(pair) -> None:
    one, _ = pair
    waiting = threading.Thread(target=one.wait)
    waiting.start()
    while not one._channels._waiting:
        pass
    with pytest.raises(Misuse, match="another thread is waiting"):
        one.wait(0)
    one.wake()
    waiting.join()
    one.wait(0)


def test_closing_ends_a_wait(pair) -> None:
    one, _ = pair
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            one.wait()
        except DomainClosed as error:
            raised.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not one._channels._waiting:
        pass
    one.close()
    waiting.join(PATIENCE)
    assert raised


def with_alarm(handler: Callable[..., object], action: Callable[[], object]) -> None:
    former = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        action()
    finally:
        signal.signal(signal.SIGALRM, former)


def test_signals_handler_that_sets_a_flag_ends_the_wait(pair) -> None:
    one, _ = pair
    handled: list[int] = []

    def wait() -> None:
        while not handled:
            assert list(one.wait()) == []

    with_alarm(lambda number, frame: handled.append(number), wait)


def test_signals_handler_may_wake(pair) -> None:
    one, _ = pair
    with_alarm(lambda *_: one.wake(), one.wait)


def test_interrupt_after_the_post_was_taken_loses_no_event(pair, monkeypatch) -> None:
    one, other = pair
    port, other_port = channel(one, other)

    def interrupted() -> list[int]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(other._channels, "_collect", interrupted)
        one.notify(port)
        with pytest.raises(KeyboardInterrupt):
            other.wait()
    assert posts(other) == 0
    assert receive(other) == [other_port]


def test_wait_interrupted_by_the_user_can_be_begun_again(pair) -> None:
    one, other = pair
    port, other_port = channel(one, other)
    with pytest.raises(KeyboardInterrupt):
        with_alarm(signal.default_int_handler, lambda: [other.wait() for _ in iter(int, 1)])
    one.notify(port)
    assert receive(other) == [other_port]


def test_no_event_is_lost_between_a_waiting_and_a_rearming_thread(run) -> None:
    """The sender sends the next number when the last was seen: a lost wake-up stops it."""
    receiver, sender = run.join(0), run.spawn()
    rounds = 3000
    grant = receiver.grant(1, 1)
    port = receiver.allocate_unbound(1)
    sender.run(f"words = platform.map(0, {grant.refs}).memory.cast('I'); port = platform.bind(0, {port})")
    sender.run("import random")
    sender.begin(
        f"for number in range(1, {rounds} + 1):\n"
        "    words[0] = number\n"
        "    for _ in range(random.choice((1, 1, 2, 3))): platform.notify(port)\n"
        f"    while words[16] != number: platform.wait(0)\n"
    )
    words = grant.memory.cast("I")
    fired = threading.Semaphore(0)
    done = threading.Event()

    def wait() -> None:
        while not done.is_set():
            for each in receiver.wait(PATIENCE):
                assert each == port
                fired.release()

    waiting = threading.Thread(target=wait)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        waiting.start()
        while words[16] < rounds:
            assert fired.acquire(timeout=PATIENCE), f"lost wake-up: seen {words[16]}, sent {words[0]}"
            receiver.rearm(port)
            words[16] = words[0]
            # What came between the fire and the rearm is looked at here, or fires again.
    finally:
        sys.setswitchinterval(interval)
        done.set()
        receiver.wake()
        waiting.join()
    sender.result()


def test_semaphore_of_a_forgotten_peer_is_closed(pair, monkeypatch) -> None:
    one, other = pair
    closed: list[object] = []
    peer = one._peers.get(other.domid)

    class Recording:
        def close(self) -> None:
            closed.append(self)
            semaphore.close()

    semaphore: posix_ipc.Semaphore = peer._semaphore
    peer._semaphore = Recording()
    del peer
    other.close()
    assert one._peers.get(other.domid) is None
    one.close()
    assert len(closed) == 1
