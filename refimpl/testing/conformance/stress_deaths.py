"""Stress of death: domains killed at any moment of what they do, which costs nobody else anything.

Each round a domain in a process of its own grants, maps, ends, notifies and writes as fast as it can, is killed with
SIGKILL after a random while, and a new domain of the same domid comes at once. Its peer lives on: its maps keep their
data, its events arrive, and at the end it can grant as many pages as at first.
"""

from __future__ import annotations

import random
import time

from refimpl.errors import GrantRefused, LimitReached, PortRefused, StoreError
from refimpl.platform import PAGE_SIZE, Platform
from refimpl.testing.conformance.checks import demand, demand_equal, refused
from refimpl.testing.conformance.factory import Factory, Peers, Spawned
from refimpl.testing.conformance.grant_endings import grant_all
from refimpl.testing.conformance.grants import fill

LONGEST_LIFE = 0.05


def live_hard(platform: Platform, peer: int, refs: tuple[int, ...], ports: list[int], home: str, seed: int) -> None:
    """Do everything a domain can, at once and for ever."""
    chance = random.Random(seed)
    held: list[object] = []
    turn = 0
    while True:
        turn += 1
        try:
            held.append(platform.grant(peer, chance.randint(1, 40)))
            mapped = platform.map(peer, chance.sample(refs, chance.randint(1, len(refs))))
            mapped.memory[0:4] = b"mine"
            port = platform.allocate_unbound(peer)
            for each in ports:
                platform.notify(each)
            for each in platform.wait(0):
                platform.rearm(each)
            platform.store.transact(lambda view: view.write(f"{home}/x", b"%d" % turn))  # noqa: B023
            platform.store.watch(home, lambda changed: None)
            if chance.random() < 0.7:
                mapped.unmap()
            if chance.random() < 0.7:
                platform.close_port(port)
        except (GrantRefused, LimitReached, PortRefused, StoreError):
            pass  # a limit, or the peer ended the grant
        while len(held) > 5:
            held.pop(0).end()  # type: ignore[attr-defined]


def stress_deaths(factory: Factory, rounds: int = 20, seed: int = 2017) -> int:
    """Kill a busy domain ``rounds`` times. Returns how many events its peer saw.

    Raises AssertionError where its peer loses data, pages or events, or a new domain cannot start.
    """
    chance = random.Random(seed)
    events = 0
    with factory.peers(1) as peers:
        (alpha,) = peers
        victim = factory.spawn()
        domid = victim.platform.domid
        capacity = grant_all(alpha, domid) if factory.can_exhaust else 0
        try:
            for number in range(rounds):
                events += _one_life(peers, alpha, victim, chance, number)
                victim = factory.spawn(domid)
                demand_equal(victim.platform.domid, domid, "domid of the next life")
        finally:
            victim.close()
        if factory.can_exhaust:
            demand_equal(grant_all(alpha, domid), capacity, "pages that can be granted after all the deaths")
    return events


def _one_life(peers: Peers, alpha: Platform, victim: Spawned, chance: random.Random, number: int) -> int:
    domid = victim.platform.domid
    grants = [alpha.grant(domid, 8) for _ in range(3)]
    kept = victim.platform.grant(alpha.domid, 4)
    content = b"".join(fill(kept, number).values())
    mapped = alpha.map(domid, kept.refs)
    channels = [peers.channel(alpha, victim.platform) for _ in range(4)]
    home = f"/local/domain/{alpha.domid}/data/conformance-death"
    alpha.store.make_directory(home)
    alpha.store.set_permissions(home, [f"n{alpha.domid}", f"b{domid}"])
    refs = tuple(ref for grant in grants for ref in grant.refs)
    life = victim.start(live_hard, alpha.domid, refs, [other for _, other in channels], home, number)
    events = 0
    deadline = time.monotonic() + chance.uniform(0, LONGEST_LIFE)
    while (left := deadline - time.monotonic()) > 0:
        for port in alpha.wait(left):
            alpha.rearm(port)
            alpha.notify(port)
            events += 1
    grants.pop(chance.randrange(3)).end()
    with refused(AssertionError, "a life that should have no end"):
        life(0)
    victim.kill()
    demand_equal(bytes(mapped.memory[0 : 4 * PAGE_SIZE]), content, f"a map of the dead domain's pages, life {number}")
    mapped.unmap()
    for port, _ in channels:
        alpha.notify(port)
        alpha.close_port(port)
    for grant in grants:
        grant.memory[0:4] = b"over"
        grant.end()
    peers.settle(alpha)
    alpha.store.remove(home)
    demand(alpha.store.read_or_none(home) is None, "what the dead domain wrote could not be removed")
    return events
