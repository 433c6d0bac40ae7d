"""Checks that nothing is left: descriptors, mappings, threads, grants, ports, over a thousand cycles."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from refimpl.errors import GrantRefused
from refimpl.testing.conformance.checks import check, demand
from refimpl.testing.conformance.factory import Factory, Peers
from refimpl.testing.conformance.grants import fill


class Holdings(NamedTuple):
    """What this process holds."""

    descriptors: int
    mappings: int
    threads: int

    @classmethod
    def now(cls) -> Holdings:
        """Count them (Linux's /proc)."""
        with open("/proc/self/maps", "rb") as maps:
            mappings = sum(1 for _ in maps)
        return cls(len(os.listdir("/proc/self/fd")), mappings, threading.active_count())


def demand_no_growth(cycle: Callable[[], None], cycles: int, what: str) -> None:
    """Demand that after a warm-up ``cycles`` more leave nothing: far less than one of anything each."""
    for _ in range(max(5, cycles // 20)):
        cycle()
    before = Holdings.now()
    for _ in range(cycles):
        cycle()
    after = Holdings.now()
    # The allocator and the interpreter map memory of their own now and then; a leak shows each time.
    allowed = cycles // 4
    for name, first, last in zip(Holdings._fields, before, after, strict=True):
        demand(last - first <= allowed, f"{cycles} times {what}: {name} went from {first} to {last}")


@check("leaks")
def granting_and_mapping_leaks_nothing(peers: Peers) -> None:
    """A thousand grants, maps (of runs, scattered and refused), unmaps and ends leave nothing in the process."""
    alpha, beta = peers

    def cycle() -> None:
        grant = alpha.grant(beta.domid, 4)
        foreign = beta.grant(alpha.domid, 6)
        straight = alpha.map(beta.domid, foreign.refs)
        scattered = alpha.map(beta.domid, [foreign.refs[page] for page in (5, 0, 3, 1)], writable=False)
        refused = 0
        try:
            alpha.map(beta.domid, [*foreign.refs, 2**31 + 7])
        except GrantRefused:
            refused = 1
        demand(refused, "a bad ref was mapped")
        for pages in (straight, scattered):
            pages.unmap()
        foreign.end()
        grant.end()

    demand_no_growth(cycle, 1000, "grant, map, unmap, end")


@check("leaks")
def event_channels_leak_nothing(peers: Peers) -> None:
    """A thousand channels bound, used and closed leave nothing in the process."""
    alpha, beta = peers

    def cycle() -> None:
        one, other = peers.channel(alpha, beta)
        beta.notify(other)
        peers.receive(alpha, one)
        alpha.close_port(one)
        beta.close_port(other)

    demand_no_growth(cycle, 1000, "bind, notify, wait, close")


@check("leaks")
def watches_and_transactions_leak_nothing(peers: Peers) -> None:
    """A thousand watches and transactions leave nothing in the process."""
    alpha, _ = peers
    path = f"/local/domain/{alpha.domid}/data/conformance-leaks"

    def cycle() -> None:
        watch = alpha.store.watch(path, lambda changed: None)
        alpha.store.transact(lambda view: view.write(path, b"1"))
        watch.cancel()
        alpha.store.remove(path)

    demand_no_growth(cycle, 1000, "watch, transact, cancel, remove")


@check("leaks", peers=0)
def closed_platforms_leak_nothing(factory: Factory) -> None:
    """Domains that come, use everything and close leave nothing in the process, whatever they had not given back."""

    def cycle() -> None:
        with factory.peers(2) as peers:
            alpha, beta = peers
            fill(alpha.grant(beta.domid, 8))
            foreign = beta.grant(alpha.domid, 8)
            alpha.map(beta.domid, foreign.refs)
            alpha.map(beta.domid, foreign.refs[::-1])
            one, other = peers.channel(alpha, beta)
            beta.notify(other)
            peers.receive(alpha, one)
            alpha.store.watch(f"/local/domain/{alpha.domid}/data", lambda changed: None)

    demand_no_growth(cycle, 24, "join, use, close")
