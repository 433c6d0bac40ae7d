"""Checks of domains that die: what their peers keep, what they lose, and that all can start again.

Spec: XenBus state machine (a vanished peer), Indexes Page and Data ring.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from refimpl.errors import GrantRefused, PortRefused
from refimpl.platform import PAGE_SIZE, Platform, StoreView
from refimpl.testing.conformance.checks import check, demand, demand_equal, refused
from refimpl.testing.conformance.factory import Factory, Peers, Spawned
from refimpl.testing.conformance.grant_endings import grant_all
from refimpl.testing.conformance.grants import ZEROES, fill, is_refused, pattern, read_mapped
from refimpl.testing.conformance.store_nodes import workplace

SPAWNING = ("can_spawn_domain",)
DYING = ("can_spawn_domain", "process_is_domain", "first_is_privileged")


@contextmanager
def released(observer: Platform, domid: int, patience: float) -> Iterator[None]:
    """Demand that xenstore says within its patience that the domain, alive before the block, is gone after it."""
    changed = threading.Condition()
    events: list[str] = []

    def callback(path: str) -> None:
        with changed:
            events.append(path)
            changed.notify_all()

    watch = observer.store.watch("@releaseDomain", callback)
    demand(observer.store.is_introduced(domid), f"domain {domid} is alive")
    yield
    seen = 0
    while observer.store.is_introduced(domid):
        with changed:
            if not changed.wait_for(lambda: len(events) > seen, patience):  # noqa: B023 - used before it changes
                raise AssertionError(f"no @releaseDomain after the death of domain {domid}")
            seen = len(events)
    watch.cancel()


@contextmanager
def alpha_and(factory: Factory) -> Iterator[tuple[Peers, Platform, Spawned]]:
    """Give a domain in this process and one in another that can be killed."""
    with factory.peers(1) as peers, factory.spawn() as beta:
        yield peers, peers.platforms[0], beta


def kill(peers: Peers, observer: Platform, victim: Spawned) -> None:
    """Kill, and wait until xenstore says so where a process is a domain."""
    if peers.factory.process_is_domain and peers.factory.first_is_privileged:
        with released(observer, victim.platform.domid, peers.patience):
            victim.kill()
    else:
        victim.kill()


@check("death", peers=0, needs=DYING)
def death_is_told_by_release_domain(factory: Factory) -> None:
    """The death of a domain fires @releaseDomain, and xenstore does not know it any more; the others stay."""
    with alpha_and(factory) as (peers, alpha, beta), factory.spawn() as gamma:
        with released(alpha, beta.platform.domid, peers.patience):
            beta.kill()
        demand(alpha.store.is_introduced(gamma.platform.domid), "the other domain lives")
        demand(alpha.store.is_introduced(alpha.domid), "the observer lives")


@check("death", peers=0, needs=DYING)
def arrival_is_told_by_introduce_domain(factory: Factory) -> None:
    """A new domain fires @introduceDomain, and an orderly end @releaseDomain."""
    with factory.peers(1) as peers:
        (alpha,) = peers
        fired = threading.Semaphore(0)
        watch = alpha.store.watch("@introduceDomain", lambda path: fired.release())
        demand(fired.acquire(timeout=peers.patience), "no event at registration")
        with factory.spawn() as beta:
            demand(fired.acquire(timeout=peers.patience), "no @introduceDomain for a new domain")
            with released(alpha, beta.platform.domid, peers.patience):
                beta.close()
        watch.cancel()


@check("death", peers=0, needs=SPAWNING)
def mapper_keeps_a_dead_granters_pages(factory: Factory) -> None:
    """A map of a dead domain's pages keeps its data and can be written and unmapped; new maps are refused."""
    with alpha_and(factory) as (peers, alpha, beta):
        grant = beta.platform.grant(alpha.domid, 5)
        other = beta.platform.grant(alpha.domid, 2)
        content = fill(grant)
        order = [grant.refs[page] for page in (4, 2, 0, 1, 3)]
        straight, scattered = alpha.map(beta.platform.domid, grant.refs), alpha.map(beta.platform.domid, order)
        kill(peers, alpha, beta)
        demand_equal(bytes(straight.memory), b"".join(content.values()), "the map")
        demand_equal(bytes(scattered.memory), b"".join(content[ref] for ref in order), "the scattered map")
        straight.memory[0:4] = b"late"
        demand_equal(bytes(straight.memory[0:4]), b"late", "what is written after the death")
        with refused(GrantRefused, "a new map of a dead domain's pages"):
            alpha.map(beta.platform.domid, other.refs)
        straight.unmap()
        scattered.unmap()


@check("death", peers=0, needs=SPAWNING)
def dead_mapper_lets_go(factory: Factory) -> None:
    """Pages that a dead domain had mapped are given back and zeroed, whether ended before its death or after."""
    with alpha_and(factory) as (peers, alpha, beta):
        domid = beta.platform.domid
        capacity = grant_all(alpha, domid) if factory.can_exhaust else 0
        before, after = alpha.grant(domid, 8), alpha.grant(domid, 8)
        beta.platform.map(alpha.domid, before.refs).memory[0:PAGE_SIZE] = pattern(1)
        beta.platform.map(alpha.domid, after.refs).memory[0:PAGE_SIZE] = pattern(2)
        before.end()
        kill(peers, alpha, beta)
        demand_equal(bytes(after.memory[0:PAGE_SIZE]), pattern(2), "what the dead domain wrote")
        after.end()
        for _ in range(20):
            grant = alpha.grant(domid, 8)
            demand_equal(bytes(grant.memory[0 : 8 * PAGE_SIZE]), ZEROES * 8, "pages granted after the death")
            fill(grant)
            grant.end()
        if factory.can_exhaust:
            demand_equal(grant_all(alpha, domid), capacity, "pages that can be granted after the death")


@check("death", peers=0, needs=SPAWNING)
def channel_with_the_dead_is_silent(factory: Factory) -> None:
    """Notifying a dead domain is no error; its ports cannot be bound; other channels work on."""
    with alpha_and(factory) as (peers, alpha, beta), factory.spawn() as gamma:
        port, _ = peers.channel(alpha, beta.platform)
        living, other = peers.channel(alpha, gamma.platform)
        unbound = beta.platform.allocate_unbound(alpha.domid)
        kill(peers, alpha, beta)
        peers.settle()
        for _ in range(3):
            alpha.notify(port)
        with refused(PortRefused, "a bind of a dead domain's port"):
            alpha.bind(beta.platform.domid, unbound)
        peers.settle()
        alpha.notify(living)
        peers.receive(gamma.platform, other)
        gamma.platform.notify(other)
        peers.receive(alpha, living)
        alpha.close_port(port)


@check("death", peers=0, needs=SPAWNING)
def event_sent_before_death_arrives(factory: Factory) -> None:
    """An event sent before the sender died is delivered."""
    for _ in range(3):
        with alpha_and(factory) as (peers, alpha, beta):
            port, other = peers.channel(alpha, beta.platform)
            peers.settle()
            beta.platform.notify(other)
            beta.kill()
            peers.receive(alpha, port)


@check("death", peers=0, needs=DYING)
def dead_domains_transaction_and_watches_are_gone(factory: Factory) -> None:
    """A transaction left open by a dead domain changes nothing and blocks nobody, nor do its watches."""
    with alpha_and(factory) as (peers, alpha, beta), workplace(peers, alpha) as path:
        alpha.store.write(f"{path}/x", b"before")
        alpha.store.set_permissions(f"{path}/x", [f"n{alpha.domid}", f"b{beta.platform.domid}"])
        beta.start(leave_transaction_open, f"{path}/x", f"{path}/begun")
        alpha.store.set_permissions(path, [f"n{alpha.domid}", f"b{beta.platform.domid}"])
        begun = threading.Event()
        watch = alpha.store.watch(path, lambda changed: begun.set() if changed.endswith("begun") else None)
        if alpha.store.read_or_none(f"{path}/begun") is None:
            demand(begun.wait(peers.patience), "the other domain did not begin")
        kill(peers, alpha, beta)
        watch.cancel()
        demand_equal(alpha.store.read(f"{path}/x"), b"before", "what the dead domain's transaction wrote")
        alpha.store.transact(lambda view: view.write(f"{path}/x", b"after"))
        demand_equal(alpha.store.read(f"{path}/x"), b"after", "the next transaction")


def leave_transaction_open(platform: Platform, path: str, begun: str) -> None:
    """Write in a transaction, say so outside of it, and never end it."""
    platform.store.watch(path, lambda changed: None)

    def action(view: StoreView) -> None:
        view.write(path, b"inside")
        platform.store.write(begun, b"1")
        signal.pause() if threading.current_thread() is threading.main_thread() else threading.Event().wait()

    platform.store.transact(action)


@check("death", peers=0, needs=DYING)
def forked_child_does_not_keep_a_domain_alive(factory: Factory) -> None:
    """A dead process's domain is dead although a forked child of it lives and holds its descriptors."""
    with alpha_and(factory) as (peers, alpha, beta):
        child = beta.start(fork_and_leave_a_child)(peers.patience)
        try:
            with released(alpha, beta.platform.domid, peers.patience):
                beta.kill()
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def fork_and_leave_a_child(platform: Platform) -> int:
    """Fork a child that does nothing until it is killed; return its process id."""
    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    return child


@check("death", peers=0, needs=DYING)
def domain_starts_again_at_once(factory: Factory) -> None:
    """After a death a new domain, of the same domid too, starts at once and finds nothing of the old one."""
    with alpha_and(factory) as (peers, alpha, beta):
        domid = beta.platform.domid
        old = beta.platform.grant(alpha.domid, 4)
        fill(old)
        unbound = beta.platform.allocate_unbound(alpha.domid)
        for _ in range(3):
            kill(peers, alpha, beta)
            beta = factory.spawn(domid)
            try:
                demand_equal(beta.platform.domid, domid, "domid of the new domain")
                demand(is_refused(alpha, domid, old.refs), "a grant of the dead domain was mapped")
                with refused(PortRefused, "a bind of the dead domain's port"):
                    alpha.bind(domid, unbound)
                grant = beta.platform.grant(alpha.domid, 4)
                demand_equal(read_mapped(alpha, beta.platform, grant.refs), ZEROES * 4, "the new domain's pages")
                port, other = peers.channel(alpha, beta.platform)
                peers.settle(alpha, beta.platform)
                beta.platform.notify(other)
                peers.receive(alpha, port)
                grant.end()
                alpha.close_port(port)
                beta.platform.close_port(other)
            except BaseException:
                beta.close()
                raise
        beta.close()
