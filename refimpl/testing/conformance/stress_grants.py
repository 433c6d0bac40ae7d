"""Stress of grants: ended and mapped in a race between two processes.

Each round the granter fills a grant with the round's pattern, tells the mapper of it, and ends it after a random while,
granting and filling new pages at once. The mapper meanwhile maps, checks and unmaps it over and over. Wrong is: a map
that began after the end returned; a refusal before the end began; a mapped page with anything but the round's pattern,
also after the end.

Where the mapper may have had the pages mapped during the end it stops for the round: what a new map gives then is not
specified.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from refimpl.errors import GrantRefused
from refimpl.platform import PAGE_SIZE, GrantedPages, MappedPages, Platform
from refimpl.testing.conformance.factory import Factory

# Words of the granter's control page, each on a cache line of its own but for the refs.
ROUND, ENDING, ENDED, REFS = 0, 16, 32, 48
# The words of the mapper's control page: the last round it is done with, and the last it has begun.
FINISHED, BEGUN = 0, 16
PAGES = 3
#: So often the granter looks whether the mapper is at it; a mapper that is woken late would never race.
_MOST_LOOKS = 20_000


@dataclass(frozen=True)
class Outcome:
    """What the mapper saw: maps that worked, and rounds whose end caught it mapping or before."""

    maps: int
    refusals: int


class Limits(NamedTuple):
    """How long to race: rounds, where chance begins, and how many seconds nothing at all may happen."""

    rounds: int
    seed: int
    stall: float


def play_granter(
    platform: Platform, peer: int, port: int, pages: tuple[GrantedPages, MappedPages], limits: Limits
) -> int:
    """Grant, and end in a race, ``rounds`` times. Returns the number of rounds."""
    rounds, seed, stall = limits
    control, reply = pages
    chance = random.Random(seed)
    full_fence = platform.fences.full
    with control.memory.cast("I") as words, reply.memory.cast("I") as replies:
        for number in range(1, rounds + 1):
            grant = platform.grant(peer, PAGES)
            _fill(grant, number)
            refs = grant.refs
            for place in range(PAGES):
                words[REFS + place] = refs[place]
            full_fence()
            words[ROUND] = number
            platform.notify(port)
            for _ in range(_MOST_LOOKS):
                if replies[BEGUN] == number:
                    break
            for _ in range(chance.randint(0, 400)):
                pass
            words[ENDING] = number
            full_fence()
            grant.end()
            full_fence()
            words[ENDED] = number
            # Were the pages reused while mapped, the mapper would see this.
            spoiler = platform.grant(peer, PAGES)
            _fill(spoiler, 0xDEAD0000 | number & 0xFFFF)
            while replies[FINISHED] != number:
                _wait(platform, port, stall, f"round {number}: the mapper does not finish")
            spoiler.end()
    return rounds


def play_mapper(
    platform: Platform, peer: int, port: int, pages: tuple[MappedPages, GrantedPages], limits: Limits
) -> Outcome:
    """Map in a race, ``rounds`` rounds. Raises AssertionError for a map after the end or a page reused."""
    rounds, seed, stall = limits
    control, reply = pages
    chance = random.Random(seed)
    maps = refusals = 0
    with control.memory.cast("I") as words, reply.memory.cast("I") as replies:
        for number in range(1, rounds + 1):
            while words[ROUND] != number:
                _wait(platform, port, stall, f"round {number} does not begin")
            platform.fences.full()
            refs = [words[REFS + place] for place in range(PAGES)]
            if number % 3 == 0:
                refs.reverse()
            replies[BEGUN] = number
            for _ in range(chance.randint(0, 300)):
                pass
            mapped_now, refused_now = _race(platform, peer, refs, words, number)
            maps += mapped_now
            refusals += refused_now
            platform.fences.full()
            replies[FINISHED] = number
            platform.notify(port)
    return Outcome(maps, refusals)


def _race(platform: Platform, peer: int, refs: Sequence[int], words: memoryview, number: int) -> tuple[int, int]:
    full_fence = platform.fences.full
    expected = b"".join(_page(number) for _ in refs)
    maps = 0
    while True:
        ended = words[ENDED] == number
        full_fence()
        try:
            mapped = platform.map(peer, refs)
        except GrantRefused:
            full_fence()
            if words[ENDING] != number:
                raise AssertionError(f"round {number}: a valid grant was refused") from None
            return maps, 1
        maps += 1
        first_sight = bytes(mapped.memory)
        for _ in range(100_000):
            if not words[ENDING] == number != words[ENDED]:
                break  # while an end is under way the map is held, to see what the end does to it
        still = bytes(mapped.memory) == expected
        mapped.unmap()
        if ended:
            raise AssertionError(f"round {number}: mapped after the end")
        if first_sight != expected:
            raise AssertionError(f"round {number}: mapped pages hold another grant's data: {first_sight[:8].hex()}")
        if not still:
            raise AssertionError(f"round {number}: the pages were reused while mapped")
        full_fence()
        if words[ENDING] == number:
            return maps, 0


def _page(number: int) -> bytes:
    return number.to_bytes(4, "little") * (PAGE_SIZE // 4)


def _fill(grant: GrantedPages, number: int) -> None:
    if grant.memory[:] != bytes(PAGES * PAGE_SIZE):
        raise AssertionError(f"round {number}: pages granted are not zeroed")
    grant.memory[:] = _page(number) * PAGES


def _wait(platform: Platform, port: int, stall: float, what: str) -> None:
    fired = platform.wait(stall)
    if not fired:
        raise AssertionError(f"domain {platform.domid}: {what}, and no event for {stall:g} s")
    for each in fired:
        platform.rearm(each)


def stress_grants(factory: Factory, rounds: int = 10_000, seed: int = 2017) -> Outcome:
    """Race ends against maps between two processes for ``rounds`` rounds. Returns what the mapper saw.

    Raises AssertionError where a map began after the end, a valid grant was refused, or a page was reused while mapped.
    """
    with factory.spawn() as granter, factory.spawn() as mapper:
        one, other = granter.platform, mapper.platform
        control, reply = one.grant(other.domid, 1), other.grant(one.domid, 1)
        control_mapped, reply_mapped = other.map(one.domid, control.refs), one.map(other.domid, reply.refs)
        port = one.allocate_unbound(other.domid)
        other_port = other.bind(one.domid, port)
        limits = Limits(rounds, seed, factory.patience)
        granting = granter.start(play_granter, other.domid, port, (control, reply_mapped), limits)
        mapping = mapper.start(play_mapper, one.domid, other_port, (control_mapped, reply), limits)
        outcome: Outcome = mapping(factory.patience * 2 + rounds / 20)
        granting(factory.patience * 2)
    if rounds >= 1000 and not (outcome.maps and outcome.refusals):
        raise AssertionError(f"the race never happened: {outcome}")
    return outcome
