"""A soak by count, not by time: many connections and bytes through several guests, every hash equal, memory flat.

``python -m refimpl.testing.soak`` is 100 000 connections and 100 GiB, sent and taken back, through 10 guests, each a
process; ``--scale 0.1`` a tenth of it. After each tenth all stand still and are measured.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial

from refimpl.frontend import Frontend, Socket
from refimpl.shm import ShmPlatform
from refimpl.store.client import StoreClient
from refimpl.testing.echo import echo_server
from refimpl.testing.fuzzing import Holdings, give_device, holdings, ready_store
from refimpl.testing.processes import End, Line, backend, store

GUESTS = 10
CONNECTIONS = 100_000
SIZE_BYTES = 100 << 30
#: How often all stand still to be measured.
LAPS = 10
#: What a process may grow by between the end of the first lap and that of the last, and be called flat.
FLAT_KIB = 2048
#: An allocator makes and gives back mappings of its own.
_FEW_MAPPINGS = 4
#: At most as much as a data ring's half holds, so that an echo always has room.
_CHUNK = 1 << 16
_RING_ORDER = 6
_ARENA_PAGES = 1024


@dataclass
class Outcome:
    """What came of it: counts, and what each process held after each lap."""

    guests: int
    connections: int = 0
    size_bytes: int = 0
    unequal: int = 0
    seconds: float = 0.0
    #: The backend's, after each lap.
    backend: list[Holdings] = field(default_factory=list)
    #: Of the guest that holds most, after each lap.
    guest: list[Holdings] = field(default_factory=list)

    @property
    def is_flat(self) -> bool:
        """Whether neither the backend nor a guest held more after the last lap than after the first."""
        return all(
            last.descriptors <= first.descriptors
            and last.mappings <= first.mappings + _FEW_MAPPINGS
            and last.resident_kib <= first.resident_kib + FLAT_KIB
            for first, *_, last in (self.backend, self.guest)
        )

    def __str__(self) -> str:
        rows = [
            f"{self.connections} connections, {self.size_bytes / (1 << 30):g} GiB each way, {self.guests} guests: "
            f"{self.unequal} hashes unequal, {self.seconds:.0f} s, {'flat' if self.is_flat else 'NOT FLAT'}"
        ]
        for name, held in (("backend", self.backend), ("fullest guest", self.guest)):
            rows += [
                f"{name}: {what} {' '.join(str(getattr(each, what)) for each in held)}" for what in Holdings._fields
            ]
        return "\n  ".join(rows)


def soaking_guest(line: Line, run: str, address: tuple[str, int], connections: int, size_bytes: int) -> None:
    """Send and take back so much over so many connections; report after each lap and wait to go on."""
    pick = random.Random(connections)
    block = pick.randbytes(2 * _CHUNK)
    with ShmPlatform.join(run, arena_pages=_ARENA_PAGES) as platform:
        line(platform.domid)
        line.wait()
        with Frontend.open(platform, ring_order=_RING_ORDER, timeout=60.0) as frontend:
            for lap in range(LAPS):
                done = unequal = 0
                for number in range(connections * lap // LAPS, connections * (lap + 1) // LAPS):
                    share = size_bytes * (number + 1) // connections - size_bytes * number // connections
                    with frontend.create_connection(address) as connection:
                        connection.settimeout(60.0)
                        unequal += not _is_echoed(connection, block, pick, share)
                    done += share
                line((done, unequal))
                line.wait()


def _is_echoed(connection: Socket, block: bytes, pick: random.Random, size_bytes: int) -> bool:
    """Send bytes and take them back; say whether both have the same hash."""
    sent, received = hashlib.sha256(), hashlib.sha256()
    while size_bytes:
        first, count = pick.randrange(_CHUNK), min(size_bytes, _CHUNK)
        chunk = memoryview(block)[first : first + count]
        sent.update(chunk)
        connection.sendall(chunk)
        while count:
            piece = connection.recv(count)
            if not piece:
                return False
            received.update(piece)
            count -= len(piece)
            size_bytes -= len(piece)
    return sent.digest() == received.digest()


def soak(
    connections: int = CONNECTIONS,
    size_bytes: int = SIZE_BYTES,
    guests: int = GUESTS,
    tell: Callable[[str], None] = lambda _line: None,
) -> Outcome:
    """Run a soak; the outcome tells what went wrong, ``tell`` is given a line after each lap. Raises what stops it."""
    each = max(LAPS, connections // guests)
    outcome, began = Outcome(guests, each * guests), time.monotonic()
    with _served() as (run, client, serving, address), ExitStack() as stack:
        running = [
            stack.enter_context(End(soaking_guest, run, address, each, size_bytes // guests)) for _ in range(guests)
        ]
        for guest in running:
            give_device(client, guest.heard())
        for lap in range(1, LAPS + 1):
            for guest in running:
                guest.go_on()
            for guest in running:
                done, unequal = guest.hear_in_the_end()
                outcome.size_bytes += done
                outcome.unequal += unequal
            outcome.backend.append(holdings(serving.pid))
            outcome.guest.append(max((holdings(guest.pid) for guest in running), key=lambda held: held.resident_kib))
            tell(
                f"lap {lap} of {LAPS}: {outcome.size_bytes / (1 << 30):.3g} GiB each way, {outcome.unequal} hashes "
                f"unequal, {time.monotonic() - began:.0f} s; the backend holds {outcome.backend[-1].resident_kib} KiB"
            )
    outcome.seconds = time.monotonic() - began
    return outcome


@contextmanager
def _served() -> Iterator[tuple[str, StoreClient, End, tuple[str, int]]]:
    """Start a store, a backend and an echo server; give the run, the store's client, the backend, the address."""
    with tempfile.TemporaryDirectory(prefix="refimpl-") as folder, ExitStack() as stack:
        run = f"{folder}/run"
        address = stack.enter_context(echo_server())
        client = stack.enter_context(closing(ready_store(stack.enter_context(End(store, run)), run)))
        serving = stack.enter_context(End(backend, run))
        serving.heard()
        yield run, client, serving, address


def main() -> None:
    """Soak and print the outcome; the exit status is 1 if a hash was unequal or something grew."""
    parser = argparse.ArgumentParser(prog="python -m refimpl.testing.soak", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of both counts")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--gib", type=float, default=SIZE_BYTES / (1 << 30), help="sent, and as much taken back")
    parser.add_argument("--guests", type=int, default=GUESTS)
    options = parser.parse_args()
    size_bytes = round(options.gib * options.scale * (1 << 30))
    tell = partial(print, file=sys.stderr, flush=True)
    outcome = soak(round(options.connections * options.scale), size_bytes, options.guests, tell)
    print(outcome)
    raise SystemExit(outcome.unequal > 0 or not outcome.is_flat)


if __name__ == "__main__":
    main()
