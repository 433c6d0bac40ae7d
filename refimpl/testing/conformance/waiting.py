"""Checks of waiting: deadlines, wake, threads, signals, and what a waiting domain costs.

Spec: Workflow (notification).
"""

from __future__ import annotations

import select
import signal
import threading
import time

from refimpl.testing.conformance.checks import Skipped, Work, check, demand, demand_equal
from refimpl.testing.conformance.factory import Peers


@check("event_channels")
def wait_ends_at_its_deadline(peers: Peers) -> None:
    """A wait with nothing sent returns nothing, when its time is over and not at once."""
    alpha, _ = peers
    longest = 0.0
    for _ in range(5):
        before = time.monotonic()
        demand_equal(list(Work(alpha.wait, 0.02).result(peers.patience, "wait(0.02)")), [], "events")
        longest = max(longest, time.monotonic() - before)
    demand(longest > 0.019, f"five waits of 20 ms took at most {longest * 1000:.1f} ms each")
    for no_time in (0, 0.0):
        demand_equal(list(Work(alpha.wait, no_time).result(peers.patience, f"wait({no_time})")), [], "events")


@check("event_channels")
def waiting_costs_no_processor_time(peers: Peers) -> None:
    """A waiting thread sleeps: it does not poll."""
    alpha, beta = peers
    peers.channel(alpha, beta)
    peers.settle()

    def wait() -> float:
        alpha.wait(0)
        before = time.thread_time()
        alpha.wait(0.25)
        return time.thread_time() - before

    least = min(Work(wait).result(peers.patience, "wait(0.25)") for _ in range(3))
    demand(least < 0.02, f"a wait of 250 ms used {least * 1000:.0f} ms of processor time")


@check("event_channels")
def waiting_thread_is_woken_by_an_event(peers: Peers) -> None:
    """A wait without deadline, begun before or after the notification, ends with the port that fired."""
    alpha, beta = peers
    one, other = peers.channel(alpha, beta)
    for _ in range(200):
        receiving = Work(peers.receive, alpha, one)
        beta.notify(other)
        receiving.result(peers.patience * 2, "receiving")
    peers.settle()

    def wait_for_ever() -> list[int]:
        while True:
            for port in alpha.wait():
                alpha.rearm(port)
                if port == one:
                    return [port]

    waiting = Work(wait_for_ever)
    beta.notify(other)
    demand_equal(waiting.result(peers.patience, "wait() with no deadline"), [one], "the port")


@check("event_channels")
def wake_ends_the_wait_in_progress(peers: Peers) -> None:
    """A wake ends a wait without deadline in another thread, from any thread."""
    alpha, _ = peers
    peers.settle(alpha)
    for _ in range(200):
        begun = threading.Event()

        def wait(begun: threading.Event = begun) -> list[int]:
            begun.set()
            return list(alpha.wait())

        waiting = Work(wait)
        begun.wait()
        alpha.wake()
        demand_equal(waiting.result(peers.patience, "a wait that was woken"), [], "events")


@check("event_channels")
def wake_before_the_wait_ends_it_at_once(peers: Peers) -> None:
    """A wake with no wait in progress ends the next one at once; several before it are one, or few."""
    alpha, _ = peers
    peers.settle(alpha)
    for wakes in (1, 2, 50):
        for _ in range(wakes):
            alpha.wake()
        demand_equal(list(Work(alpha.wait).result(peers.patience, "a wait after a wake")), [], "events")
        for _ in range(1000):
            before = time.monotonic()
            alpha.wait(0.02)
            if time.monotonic() - before > 0.019:
                break
        else:
            raise AssertionError("waits go on ending early after a wake")


@check("event_channels")
def wake_loses_no_event(peers: Peers) -> None:
    """Wakes among notifications lose none of them, whichever comes first."""
    alpha, beta = peers
    one, other = peers.channel(alpha, beta)
    for turn in range(300):
        if turn % 3:
            alpha.wake()
        beta.notify(other)
        if turn % 2:
            alpha.wake()
        peers.receive(alpha, one)


@check("event_channels")
def wake_works_from_a_store_callback(peers: Peers) -> None:
    """A watch's callback may wake the waiting thread."""
    alpha, _ = peers
    path = f"/local/domain/{alpha.domid}/data/conformance-wake"
    changed = threading.Event()

    def callback(path: str) -> None:
        changed.set()
        alpha.wake()

    watch = alpha.store.watch(path, callback)

    def wait() -> bool:
        while not changed.is_set():
            alpha.wait()
        changed.clear()
        return True

    try:
        Work(wait).result(peers.patience, "the wait after registration")
        waiting = Work(wait)
        alpha.store.write(path, b"1")
        waiting.result(peers.patience, "the wait for a change")
    finally:
        watch.cancel()
        alpha.store.remove(path)


@check("event_channels")
def calls_from_many_threads_while_one_waits(peers: Peers) -> None:
    """Notify, rearm, allocate, bind and close are safe from several threads while another one waits."""
    alpha, beta = peers
    channels = [peers.channel(alpha, beta) for _ in range(4)]
    turns = 200
    stop = threading.Event()
    served = {port: threading.Semaphore(0) for port, _ in channels}

    def wait() -> None:
        while not stop.is_set():
            for port in alpha.wait(peers.patience):
                if port in served:  # a port just bound and closed may fire with nothing sent
                    served[port].release()

    def converse(port: int, other: int) -> None:
        for turn in range(turns):
            beta.notify(other)
            if not served[port].acquire(timeout=peers.patience):
                raise AssertionError(f"lost wake-up: port {port} did not fire in turn {turn}")
            alpha.rearm(port)
            alpha.notify(port)
            if turn % 10 == 0:
                spare = alpha.allocate_unbound(beta.domid)
                beta.close_port(beta.bind(alpha.domid, spare))
                alpha.close_port(spare)

    waiting = Work(wait)
    try:
        talks = [Work(converse, *channel) for channel in channels]
        for talk in talks:
            talk.result(peers.patience * 3, f"{turns} turns")
    finally:
        stop.set()
        alpha.wake()
        waiting.result(peers.patience, "the waiting thread")


@check("event_channels")
def signal_does_not_break_a_wait(peers: Peers) -> None:
    """A signal's handler runs during a wait, which goes on or returns nothing, and loses no event."""
    if threading.current_thread() is not threading.main_thread():
        raise Skipped("signal handlers run in the main thread, and this is another")
    alpha, beta = peers
    one, other = peers.channel(alpha, beta)
    peers.settle()
    waiting, handled = [False], [0]

    def handler(number: int, frame: object) -> None:
        handled[0] += waiting[0]

    over: list[bool] = []

    def disturb(until: int) -> None:
        for _ in range(10_000):
            if handled[0] >= until or over:
                break
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            time.sleep(0.0002)
        beta.notify(other)

    previous = signal.signal(signal.SIGUSR1, handler)
    disturbing = Work(int)
    try:
        for turn in range(1, 11):
            disturbing = Work(disturb, turn * 5)
            waiting[0] = True
            peers.receive(alpha, one)
            waiting[0] = False
            disturbing.result(peers.patience, f"signals of turn {turn}")
    finally:
        over.append(True)  # no signal may come after its handler went
        disturbing.result(peers.patience, "the signals")
        signal.signal(signal.SIGUSR1, previous)
    demand(handled[0], "no handler ran during a wait")


@check("event_channels")
def descriptor_is_readable_while_there_are_events(peers: Peers) -> None:
    """Where there is a descriptor, it is readable while a poll has something, and not when all is taken."""
    alpha, beta = peers
    descriptor = alpha.fileno()
    if descriptor is None:
        raise Skipped(f"{peers.factory.name}: no descriptor")
    one, other = peers.channel(alpha, beta)
    peers.settle()

    def readable(seconds: float) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    for _ in range(20):
        demand(not readable(0), "readable with nothing sent")
        beta.notify(other)
        demand(readable(peers.patience), "not readable after a notification")
        peers.receive(alpha, one, rearm=False)
        beta.notify(other)
        demand(one not in alpha.wait(0), "a masked port fired")
        alpha.rearm(one)
        demand(readable(peers.patience), "not readable after the rearm of a port with an event")
        peers.receive(alpha, one)
        peers.settle(alpha)
