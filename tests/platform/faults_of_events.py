"""Faults of event channels and waiting."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time

from faults import fault, instead_of
from faults_of_grants import leak

from refimpl.errors import DomainClosed, LimitReached, PortRefused


@fault(
    "event_channels",
    "notification-reaches-the-other-end",
    "calls-from-many-threads-while-one-waits",
    "waiting-thread-is-woken-by-an-event",
    "closed-ports-can-be-used-again",
)
def every_thirtieth_notification_is_lost(platform):
    numbers = itertools.count(1)

    @instead_of(platform, "notify")
    def notify(real, port):
        if next(numbers) % 30:
            real(port)


@fault("event_channels", "notification-before-the-wait-is-kept")
def events_before_the_wait_are_dropped(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        for port in platform.ports.values():
            port.pending = False
        return real(timeout)


@fault("event_channels", "idle-channels-are-quiet")
def ports_fire_with_nothing_sent(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        for port in platform.ports.values():
            platform.deliver(port)
        return real(timeout)


@fault("event_channels", "fired-port-is-masked-until-rearmed")
def ports_are_not_masked(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        fired = real(timeout)
        for port in fired:
            platform.ports[port].masked = False
        return fired


@fault("event_channels", "event-during-the-mask-comes-after-the-rearm")
def events_during_the_mask_are_lost(platform):
    @instead_of(platform, "rearm")
    def rearm(real, port):
        if port in platform.ports:
            platform.ports[port].pending = False
        real(port)


@fault("event_channels", "event-during-the-mask-comes-after-the-rearm")
def ports_stay_masked(platform):
    @instead_of(platform, "rearm")
    def rearm(real, port):
        if platform.ports[port].pending is False:
            real(port)


@fault("event_channels", "masked-port-does-not-hold-up-others")
def one_mask_holds_for_all(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        if any(port.masked for port in platform.ports.values()):
            time.sleep(min(timeout or 0, 0.05))
            return []
        return real(timeout)


@fault("event_channels", "events-are-merged-and-each-port-returned-once")
def ports_are_returned_twice(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        return list(real(timeout)) * 2


@fault("event_channels", "events-are-merged-and-each-port-returned-once")
def events_are_counted(platform):
    counts = {}
    platform.deliver_once = platform.deliver

    @instead_of(platform, "deliver")
    def deliver(real, port):
        counts[id(port)] = counts.get(id(port), 0) + 1
        real(port)

    @instead_of(platform, "rearm")
    def rearm(real, number):
        port = platform.ports.get(number)
        if port is not None and counts.get(id(port), 0) > 1:
            counts[id(port)] -= 1
            port.pending = True
        real(number)

    def notify_of_other(number):
        own = platform.ports[number]
        other = platform.machine.domains[own.peer]
        other.deliver(other.ports[own.other])

    platform.notify = notify_of_other


@fault("event_channels", "all-of-many-ports-fire")
def only_thirty_two_ports_fire(platform):
    @instead_of(platform, "deliver")
    def deliver(real, port):
        if list(platform.ports.values()).index(port) < 32:
            real(port)

    @instead_of(platform, "notify")
    def notify(real, number):
        own = platform.ports[number]
        other = platform.machine.domains[own.peer]
        other.deliver(other.ports[own.other])


@fault("event_channels", "one-wait-serves-several-peers")
def only_one_peers_events_come(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        first = next(iter(platform.ports.values())).peer
        for port in platform.ports.values():
            port.pending = port.pending and port.peer == first
        return real(timeout)


@fault("event_channels", "closed-port-never-fires")
def closed_ports_fire_late(platform):
    late = []

    @instead_of(platform, "close_port")
    def close_port(real, port):
        if port in platform.ports and platform.ports[port].pending:
            late.append(port)
        real(port)

    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        fired = [*real(timeout), *late]
        late.clear()
        return fired


@fault("event_channels", "closing-and-rearming-what-is-not-there-is-ignored", "closed-port-never-fires")
def rearming_a_closed_port_raises(platform):
    @instead_of(platform, "rearm")
    def rearm(real, port):
        platform.ports[port]
        real(port)


@fault("event_channels", "closing-and-rearming-what-is-not-there-is-ignored")
def closing_twice_raises(platform):
    @instead_of(platform, "close_port")
    def close_port(real, port):
        platform.ports[port]
        real(port)


@fault("event_channels", "notifying-a-closed-end-goes-nowhere", "closing-closes-every-channel")
def notifying_a_closed_end_raises(platform):
    @instead_of(platform, "notify")
    def notify(real, port):
        own = platform.ports.get(port)
        domain = platform.machine.domains.get(own.peer) if own else None
        if own and (domain is None or own.other not in domain.ports):
            raise PortRefused(port, "the other end is closed")
        real(port)


@fault("event_channels", "notifying-what-is-not-ours-is-refused")
def notifying_anything_is_allowed(platform):
    @instead_of(platform, "notify")
    def notify(real, port):
        if port in platform.ports:
            real(port)


@fault("event_channels", "notifying-what-is-not-ours-is-refused")
def refusals_name_no_port(platform):
    @instead_of(platform, "notify")
    def notify(real, port):
        try:
            real(port)
        except PortRefused:
            raise PortRefused(0, "not ours") from None


@fault("event_channels", "binding-a-port-in-use-or-absent-is-refused")
def ports_can_be_bound_twice(platform):
    @instead_of(platform, "bind")
    def bind(real, peer, peer_port):
        domain = platform.machine.domains.get(peer)
        if domain and peer_port in domain.ports:
            domain.ports[peer_port].other = None
        return real(peer, peer_port)


@fault("event_channels", "binding-a-port-in-use-or-absent-is-refused")
def absent_ports_can_be_bound(platform):
    @instead_of(platform, "bind")
    def bind(real, peer, peer_port):
        domain = platform.machine.domains.get(peer)
        if domain and peer_port not in domain.ports:
            return real(peer, domain.allocate_unbound(platform.domid))
        return real(peer, peer_port)


@fault("event_channels", "binding-a-port-meant-for-another-is-refused", "third-domain-cannot-bind")
def anybody_can_bind(platform):
    @instead_of(platform, "bind")
    def bind(real, peer, peer_port):
        domain = platform.machine.domains.get(peer)
        if domain and peer_port in domain.ports:
            domain.ports[peer_port].peer = platform.domid
        return real(peer, peer_port)


@fault("event_channels", "ports-beyond-the-limit-leave-nothing", "closed-ports-can-be-used-again")
def closed_ports_count_towards_the_limit(platform):
    closed = [0]

    @instead_of(platform, "close_port")
    def close_port(real, port):
        closed[0] += port in platform.ports
        real(port)

    @instead_of(platform, "_add_port")
    def add_port(real, port):
        if closed[0] > 280:
            raise LimitReached("event channels")
        return real(port)


@fault("event_channels", "ports-beyond-the-limit-leave-nothing")
def refused_binds_use_the_port_up(platform):
    @instead_of(platform, "bind")
    def bind(real, peer, peer_port):
        try:
            return real(peer, peer_port)
        except LimitReached:
            platform.machine.domains[peer].ports[peer_port].other = -1
            raise


@fault("event_channels", "closing-closes-every-channel")
def closing_keeps_the_ports(platform):
    @instead_of(platform, "close")
    def close(real):
        ports = dict(platform.ports)
        real()
        platform.ports.update(ports)
        platform.machine.domains[platform.domid] = platform


@fault("event_channels", "wait-ends-at-its-deadline")
def waits_end_at_once(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        return real(None if timeout is None else 0)


@fault("event_channels", "wait-ends-at-its-deadline")
def waits_never_end(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        return real(5.0)


@fault("event_channels", "waiting-costs-no-processor-time")
def waits_poll(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        deadline = time.monotonic() + (timeout if timeout is not None else 1e9)
        while True:
            fired = real(0)
            if fired or time.monotonic() >= deadline:
                return fired


@fault("event_channels", "wake-ends-the-wait-in-progress", "wake-works-from-a-store-callback")
def wake_does_not_reach_a_wait_in_progress(platform):
    waiting = threading.Event()

    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        waiting.set()
        try:
            return real(3.0 if timeout is None else timeout)
        finally:
            waiting.clear()

    @instead_of(platform, "wake")
    def wake(real):
        if not waiting.is_set():
            real()


@fault("event_channels", "wake-before-the-wait-ends-it-at-once")
def wake_with_no_wait_is_lost(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        platform._woken = False
        return real(3.0 if timeout is None else timeout)


@fault("event_channels", "wake-before-the-wait-ends-it-at-once")
def wake_lasts_for_ever(platform):
    woken = []

    @instead_of(platform, "wake")
    def wake(real):
        woken.append(1)
        real()

    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        return real(0 if woken else timeout)


@fault("event_channels", "wake-loses-no-event")
def wake_drops_events(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        woken = platform._woken
        fired = real(timeout)
        if woken:
            for port in fired:
                platform.ports[port].masked = False
            return []
        return fired


@fault("event_channels", "signal-does-not-break-a-wait")
def signals_come_out_of_the_wait(platform):
    def interrupt(number, frame):
        raise InterruptedError

    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        if threading.current_thread() is not threading.main_thread():
            return real(timeout)
        previous = signal.signal(signal.SIGUSR1, interrupt)
        try:
            return real(timeout)
        finally:
            signal.signal(signal.SIGUSR1, previous)


@fault("event_channels", "descriptor-is-readable-while-there-are-events")
def descriptor_is_never_readable(platform):
    reader, writer = os.pipe()
    leak(platform, reader)
    leak(platform, writer)
    platform.fileno = lambda: reader


@fault("event_channels", "descriptor-is-readable-while-there-are-events")
def descriptor_is_always_readable(platform):
    reader, writer = os.pipe()
    leak(platform, reader)
    leak(platform, writer)
    os.write(writer, b"1")
    platform.fileno = lambda: reader


@fault("leaks", "event-channels-leak-nothing")
def binds_leak_a_descriptor(platform):
    @instead_of(platform, "bind")
    def bind(real, *arguments):
        leak(platform, os.dup(platform.machine.descriptor))
        return real(*arguments)


@fault("leaks", "closed-platforms-leak-nothing")
def closing_leaves_a_thread(platform):
    stop = threading.Event()
    weak = threading.Thread(target=stop.wait, args=(20.0,), daemon=True)
    weak.start()


@fault("fork", "forked-child-owns-nothing", "fork-during-calls-in-other-threads")
def children_own_everything(platform):
    platform.check = lambda closing=False: None
    platform.store.check = lambda closed=True: None


@fault("fork", "fork-during-calls-in-other-threads")
def children_meet_a_lock_first(platform):
    @instead_of(platform, "check")
    def check(real, **options):
        with platform.machine.lock:
            real(**options)


@fault("death", "closing-ends-a-wait-in-progress")
def waits_go_on_in_a_closed_domain(platform):
    @instead_of(platform, "wait")
    def wait(real, timeout=None):
        try:
            return real(timeout)
        except DomainClosed:
            time.sleep(1.0)
            raise
