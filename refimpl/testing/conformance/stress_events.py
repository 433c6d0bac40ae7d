"""Stress of event channels: several processes, many channels, millions of events, none lost.

A channel is a pair of counters in shared memory, one written by each end. An end raises its counter a few times, with a
notification each, and goes on only when the other end has said, in a word of its own and with a notification, that it
has seen the last value. So one lost wake-up anywhere stops its channel for ever, and the stall is reported with what
each side had seen.

A page holds, for each channel, two 32-bit words written by its granter alone: what it has sent, what it has seen.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import combinations

from refimpl.platform import PAGE_SIZE, GrantedPages, MappedPages, Platform
from refimpl.testing.conformance.factory import Factory

WORDS_PER_CHANNEL = 16  # a cache line each
MAXIMUM_CHANNELS = PAGE_SIZE // 4 // WORDS_PER_CHANNEL
SENT, SEEN = 0, 1


@dataclass
class End:
    """One process's end of a channel: the port, its word's place, the page it writes and the page it reads."""

    port: int
    place: int
    written: GrantedPages
    read: MappedPages


@dataclass(frozen=True)
class Outcome:
    """What one process did: notifications sent, and wake-ups that brought something new."""

    notifications: int
    wakeups: int


class _Channel:
    """The running state of an end: three private counters beside the shared words."""

    def __init__(self, platform: Platform, end: End, target: int, chance: random.Random) -> None:
        self.port = end.port
        self.target = target
        self.sent = self.seen = 0
        self.notifications = 0
        self._platform = platform
        self._chance = chance
        self._mine = end.written.memory.cast("I")
        self._theirs = end.read.memory.cast("I")
        self._first = end.place * WORDS_PER_CHANNEL

    def release(self) -> None:
        self._mine.release()
        self._theirs.release()

    @property
    def acknowledged(self) -> int:
        return self._theirs[self._first + SEEN]

    @property
    def done(self) -> bool:
        return self.sent == self.seen == self.target and self.acknowledged == self.target

    def send_burst(self) -> None:
        for _ in range(min(self._chance.randint(1, 8), self.target - self.sent)):
            self.sent += 1
            self._mine[self._first + SENT] = self.sent
            self._platform.fences.write()
            self._platform.notify(self.port)
            self.notifications += 1

    def serve(self) -> bool:
        """Look at the other end's words, answer, go on; say whether there was anything new."""
        value = self._theirs[self._first + SENT]
        news = value != self.seen
        if news:
            if (value - self.seen) % 2**32 > 8:
                raise AssertionError(f"port {self.port}: the counter jumped from {self.seen} to {value}")
            self.seen = value
            self._mine[self._first + SEEN] = value
        if self.sent < self.target and self.acknowledged == self.sent:
            self.send_burst()
            return True
        if news:
            self._platform.notify(self.port)
            self.notifications += 1
        return news

    def __str__(self) -> str:
        return (
            f"port {self.port}: sent {self.sent} of {self.target}, of which the other end has seen {self.acknowledged};"
            f" seen {self.seen}, while the other end's word says {self._theirs[self._first + SENT]}"
        )


def converse(platform: Platform, ends: list[End], target: int, stall: float, seed: int) -> Outcome:
    """Be one of the processes: send and see ``target`` events on each end. Raises AssertionError on a lost wake-up.

    ``stall`` is how long, in seconds, nothing at all may happen.
    """
    chance = random.Random(seed)
    channels = {end.port: _Channel(platform, end, target, chance) for end in ends}
    wakeups = 0
    try:
        for channel in channels.values():
            channel.send_burst()
        unfinished = set(channels)
        while unfinished:
            fired = platform.wait(stall)
            if not fired:
                stuck = "; ".join(str(channels[port]) for port in sorted(unfinished)[:4])
                raise AssertionError(f"lost wake-up in domain {platform.domid}: nothing for {stall:g} s; {stuck}")
            for port in fired:
                channel = channels[port]
                wakeups += channel.serve()
                if channel.done:
                    unfinished.discard(port)
                platform.rearm(port)
        return Outcome(sum(channel.notifications for channel in channels.values()), wakeups)
    finally:
        for channel in channels.values():
            channel.release()


def stress_event_channels(
    factory: Factory, processes: int = 3, ports: int = 32, events: int = 1_000_000, seed: int = 2017
) -> tuple[int, int]:
    """Send at least ``events`` notifications over ``ports`` channels between processes; none may be lost.

    Every channel is used in both directions. Returns how many notifications were sent, and how many wake-ups brought
    something new. Raises AssertionError for a lost wake-up: nothing happened for the factory's patience.
    """
    if not 0 < ports <= MAXIMUM_CHANNELS:
        raise ValueError(f"1 to {MAXIMUM_CHANNELS} channels")
    target = -(-events // (2 * ports))
    spawned = [factory.spawn() for _ in range(processes)]
    try:
        ends = _connect([each.platform for each in spawned], ports)
        pending = [
            each.start(converse, ends[number], target, factory.patience, seed + number)
            for number, each in enumerate(spawned)
        ]
        # Each process watches its own progress; the sum only bounds what cannot happen otherwise.
        outcomes = [result(factory.patience * 2 + events / 500) for result in pending]
    finally:
        for each in spawned:
            each.close()
    sent = sum(outcome.notifications for outcome in outcomes)
    if sent < events:
        raise AssertionError(f"{sent} notifications sent, {events} asked for")
    return sent, sum(outcome.wakeups for outcome in outcomes)


def _connect(platforms: list[Platform], ports: int) -> list[list[End]]:
    """Share a page each way for each pair of processes, and deal the channels out over the pairs."""
    ends: list[list[End]] = [[] for _ in platforms]
    pairs = list(combinations(range(len(platforms)), 2))
    shared = {}
    for one, other in pairs:
        for granter, mapper in ((one, other), (other, one)):
            grant = platforms[granter].grant(platforms[mapper].domid, 1)
            shared[granter, mapper] = grant, platforms[mapper].map(platforms[granter].domid, grant.refs)
    for place in range(ports):
        one, other = pairs[place % len(pairs)]
        port = platforms[one].allocate_unbound(platforms[other].domid)
        other_port = platforms[other].bind(platforms[one].domid, port)
        ends[one].append(End(port, place, shared[one, other][0], shared[other, one][1]))
        ends[other].append(End(other_port, place, shared[other, one][0], shared[one, other][1]))
    return ends
