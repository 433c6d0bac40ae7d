"""Ends that write anything anywhere, against real ones, with an honest guest beside them; and what that did.

``python -m refimpl.testing.fuzzing --steps N --seed S`` runs both fuzzers, prints their figures, and ends with status
1 where they show a fault:

- the backend: a guest of random requests, random words in every page it shares, random nodes, while another guest's
  bytes are checked and timed, by turns with the hostile one at work and stopped;
- the frontend: a backend of random responses, words and states, while the guest's program uses its sockets. Whatever
  it is told, its calls end, and end in errors that callers know.

Spec: none; security rules SEC-B-11, SEC-B-14, SEC-F-1 to SEC-F-6.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import NamedTuple

from refimpl.errors import RefimplError
from refimpl.frontend import Frontend
from refimpl.shm import ShmPlatform
from refimpl.store.client import StoreClient
from refimpl.testing import raw
from refimpl.testing.attack import NODES, attacking_guest, number
from refimpl.testing.delay import spinning, time_by_turns
from refimpl.testing.echo import echo_server
from refimpl.testing.hostile import DataRing
from refimpl.testing.hostile_backend import HostileBackend
from refimpl.testing.processes import End, Line, count_held, counted_backend, store
from refimpl.toolstack import attach, introduce_domain_nodes

#: One guest cannot slow another more than so many times.
MOST_DELAY_RATIO = 2.0
#: What may have come since the beginning and be no leak: a dead peer is kept until the next is looked for.
_MORE_DESCRIPTORS, _MORE_MAPPINGS, _MORE_KIB = 10, 20, 4096


@dataclass
class Figures:
    """What came of it. Counts before and after are of the process that was attacked."""

    inputs: int = 0
    connections: int = 0
    crashes: int = 0
    hangs: int = 0
    descriptors: tuple[int, int] = (0, 0)
    mappings: tuple[int, int] = (0, 0)
    resident_kib: tuple[int, int] = (0, 0)
    #: What the attacked domain can still grant, maps, and has as ports, before and after.
    held: tuple[dict[str, int], dict[str, int]] = ({}, {})
    #: Of an honest guest's round trips: the mean with the hostile one at work, by that with it stopped and a process
    #: that does nothing but run in its place, which takes as much of the machine.
    delay_ratio: float = 0.0
    #: The longest round trip with it stopped, and with it at work.
    worst_delay_ms: tuple[float, float] = (0.0, 0.0)

    def faults(self) -> list[str]:
        """Say what of it should not be."""
        bounds = {
            "crashes": (self.crashes, 0),
            "hangs": (self.hangs, 0),
            "descriptors": (self.descriptors[1], self.descriptors[0] + _MORE_DESCRIPTORS),
            "mappings": (self.mappings[1], self.mappings[0] + _MORE_MAPPINGS),
            "KiB of memory": (self.resident_kib[1], self.resident_kib[0] + _MORE_KIB),
            "maps": (self.held[1].get("maps", 0), self.held[0].get("maps", 0)),
            "ports": (self.held[1].get("ports", 0), self.held[0].get("ports", 0)),
        }
        found = [f"{name}: {value}, not up to {most}" for name, (value, most) in bounds.items() if value > most]
        if self.is_slowed:
            found.append(f"the honest guest's round trips: {self.delay_ratio:.2f} times as long")
        return found

    @property
    def is_slowed(self) -> bool:
        """Whether the honest guest was slowed more than it may be."""
        return self.delay_ratio > MOST_DELAY_RATIO


def fuzz_backend(steps: int, seed: int) -> Figures:
    """Attack a backend, an honest guest beside the hostile one; raise nothing, count all."""
    figures = Figures(inputs=steps)
    with tempfile.TemporaryDirectory(prefix="refimpl-") as folder, echo_server() as address:
        run = f"{folder}/run"
        with (
            End(store, run) as storing,
            closing(ready_store(storing, run)) as client,
            End(counted_backend, run) as served,
        ):
            served.heard()
            with ShmPlatform.join(run, arena_pages=1024) as platform:
                give_device(client, platform.domid)
                with Frontend.open(platform, ring_order=2) as frontend:
                    before, held_before = holdings(served.pid), _held(served)
                    with frontend.create_connection(address) as connection:
                        connection.settimeout(30)
                        with End(attacking_guest, run, address, seed, steps) as hostile, End(spinning) as other:
                            give_device(client, hostile.heard())
                            hostile.go_on()
                            try:
                                delay = time_by_turns(connection, hostile, [other])
                                figures.delay_ratio, figures.worst_delay_ms = delay.ratio, delay.longest_ms
                                figures.connections = hostile.heard()
                            except TimeoutError:
                                figures.hangs += 1
                    with suppress(RefimplError):
                        frontend.socket().close()  # The backend had a turn after the guest's death.
                    after = holdings(served.pid)
                    figures.held = held_before, _held(served)
                    figures.crashes = int(not served.is_alive)
    figures.descriptors, figures.mappings, figures.resident_kib = zip(before, after, strict=True)
    return figures


def _held(end: End) -> dict[str, int]:
    """Have an end count what it holds; nothing if it is gone."""
    with suppress(EOFError, OSError):
        end.go_on()
        held: dict[str, int] = end.heard()
        return held
    return {}


def using_guest(line: Line, run: str, rounds: int) -> None:
    """Use sockets over whatever the backend says, in short waits; report the errors that callers do not know."""
    with ShmPlatform.join(run, arena_pages=1024) as platform:
        at_first = count_held(platform)
        line(platform.domid)
        line.wait()
        strange = []
        for _ in range(rounds):
            try:
                _use(platform)
            except (OSError, RefimplError):
                pass
            except Exception as error:
                strange.append(repr(error))
        line((strange, (at_first, count_held(platform))))
        line.wait()


def _use(platform: ShmPlatform) -> None:
    with Frontend.open(platform, ring_order=1, timeout=0.5, arrival_timeout=0.0) as frontend:
        for _ in range(4):
            with suppress(OSError), frontend.socket() as connection:
                connection.settimeout(0.1)
                connection.connect(("192.0.2.1", 80))
                connection.send(b"x" * 3000)
                for _ in range(3):
                    connection.recv(5000)
                    connection.send(b"y" * 100)
            with suppress(OSError), frontend.socket() as listener:
                listener.settimeout(0.05)
                listener.bind(("0.0.0.0", 8080))
                listener.listen()
                listener.accept()


def fuzz_frontend(rounds: int, seed: int) -> Figures:
    """Attack a frontend by a backend of random words, for so many lives of its device."""
    figures, pick = Figures(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="refimpl-") as folder:
        run = f"{folder}/run"
        with (
            End(store, run) as storing,
            closing(ready_store(storing, run)) as client,
            ShmPlatform.join(run, domid=0, arena_pages=1024) as zero,
            End(using_guest, run, rounds) as attacked,
        ):
            domid = attacked.heard()
            give_device(client, domid)
            before = holdings(attacked.pid)
            attacked.go_on()
            deadline = time.monotonic() + 60 + 10 * rounds
            while attacked.is_alive and not attacked.has_reported and time.monotonic() < deadline:
                with suppress(AssertionError, RefimplError, ValueError):
                    _live_one_life(zero, domid, pick, figures)
            after = holdings(attacked.pid)
            figures.hangs = int(not attacked.has_reported and attacked.is_alive)
            strange, figures.held = attacked.heard() if attacked.has_reported else ([], figures.held)
            figures.crashes = len(strange) + (not attacked.is_alive)
            for each in strange[:5]:
                print("  strange:", each)
    figures.descriptors, figures.mappings, figures.resident_kib = zip(before, after, strict=True)
    return figures


def _live_one_life(zero: ShmPlatform, domid: int, pick: random.Random, figures: Figures) -> None:
    with HostileBackend(zero, domid, patience=1.0) as end:
        end.publish()
        end.connect()
        figures.connections += 1
        for _ in range(pick.randrange(5, 60)):
            figures.inputs += 1
            for port in zero.wait(0.01):
                zero.rearm(port)
            for asked in end.take_requests():
                if asked.cmd == raw.CONNECT and pick.random() < 0.8:
                    with suppress(RefimplError):
                        end.map_data_ring(asked)
                other = {pick.choice(("req_id", "cmd", "id", "pad")): number(pick)} if pick.random() < 0.05 else {}
                if asked.cmd != raw.ACCEPT or pick.random() < 0.2:
                    end.answer(asked, pick.choice((0, 0, 0, 0, 0, 0, -11, -4096, 5, -(2**31))), **other)
            for ring in end.rings:
                _disturb(ring, pick)
                end.notify(ring.port)
            if pick.random() < 0.02:
                end.commands.set_word(pick.choice((0, 4, 8, 12, pick.randrange(1024) * 4)), number(pick))
            if pick.random() < 0.02:
                end.set_state(pick.choice(NODES))


def _disturb(ring: DataRing, pick: random.Random) -> None:
    if pick.random() < 0.5:
        ring.indexes["in_prod"] = ring.indexes["in_cons"] + pick.randrange(ring.half_bytes + 1)
    else:
        name = pick.choice((*raw.INDEXES_WORDS, "ref"))
        if name == "ref":
            ring.indexes.set_word(pick.randrange(1024) * 4, number(pick))
        elif pick.random() < 0.3:
            ring.indexes[name] = number(pick)


class Holdings(NamedTuple):
    """What a process holds, as its kernel tells."""

    descriptors: int
    mappings: int
    resident_kib: int


def holdings(pid: int) -> Holdings:
    """Count a process's descriptors, mappings and resident memory, without what it shares; zeroes if it is gone."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as maps, open(f"/proc/{pid}/statm") as sizes:
            resident, shared = map(int, sizes.read().split()[1:3])
            return Holdings(len(os.listdir(f"/proc/{pid}/fd")), sum(1 for _ in maps), (resident - shared) * 4)
    except OSError:
        return Holdings(0, 0, 0)


def give_device(client: StoreClient, domid: int) -> None:
    """Do the toolstack's part for a new domain."""
    introduce_domain_nodes(client, domid)
    attach(client, domid)


def ready_store(storing: End, run: str) -> StoreClient:
    """Wait until a store serves, and return a connection of domain 0."""
    storing.heard()
    return StoreClient.connect(f"{run}/0.socket")


def main() -> int:
    """Run both fuzzers and print what came of it; return 1 if that shows a fault."""
    parser = argparse.ArgumentParser(prog="python -m refimpl.testing.fuzzing", description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000, help="hostile acts against the backend")
    parser.add_argument("--lives", type=int, default=200, help="lives of the frontend's device")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}: {options.steps} acts against the backend", flush=True)
    status = 0
    for name, fuzz, count in (("backend", fuzz_backend, options.steps), ("frontend", fuzz_frontend, options.lives)):
        figures = fuzz(count, options.seed)
        print(name, figures, flush=True)
        for fault in figures.faults():
            print(f"{name}: FAULT: {fault}")
            status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main())
