"""A soak by count, not by time: many connections and bytes through several guests, every hash equal, memory flat.

``python -m refimpl.testing.soak --scale 1`` is 100 000 connections and 100 GiB through 10 guests, each a process.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass

from refimpl.frontend import Frontend, Socket
from refimpl.shm import ShmPlatform
from refimpl.testing.fuzzing import echo_server, give_device, holdings, ready_store
from refimpl.testing.processes import End, Line, backend, store

GUESTS = 10
CONNECTIONS = 100_000
SIZE_BYTES = 100 << 30
#: At most as much as a data ring's half holds, so that an echo always has room.
_CHUNK = 1 << 16
_RING_ORDER = 6
_ARENA_PAGES = 1024


@dataclass
class Outcome:
    """What came of it. The counts at a tenth of the way and at the end are of the backend's process."""

    guests: int
    connections: int = 0
    size_bytes: int = 0
    unequal: int = 0
    seconds: float = 0.0
    descriptors: tuple[int, int] = (0, 0)
    mappings: tuple[int, int] = (0, 0)
    resident_kib: tuple[int, int] = (0, 0)


def soaking_guest(line: Line, run: str, address: tuple[str, int], connections: int, size_bytes: int) -> None:
    """Send and take back so much over so many connections; report after a tenth and at the end."""
    pick = random.Random(connections)
    block = pick.randbytes(2 * _CHUNK)
    with ShmPlatform.join(run, arena_pages=_ARENA_PAGES) as platform:
        line(platform.domid)
        line.wait()
        done = unequal = 0
        with Frontend.open(platform, ring_order=_RING_ORDER, timeout=60.0) as frontend:
            for number in range(connections):
                share = size_bytes * (number + 1) // connections - size_bytes * number // connections
                with frontend.create_connection(address) as connection:
                    connection.settimeout(60.0)
                    unequal += not _is_echoed(connection, block, pick, share)
                done += share
                if number == connections // 10:
                    line("warm")
                    line.wait()
        line((done, unequal))


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


def soak(scale: float = 1.0, guests: int = GUESTS) -> Outcome:
    """Run a soak of ``scale`` times the whole; the outcome tells what went wrong. Raises what stops it."""
    each = max(10, round(CONNECTIONS * scale / guests))
    outcome, began = Outcome(guests, each * guests), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="refimpl-") as folder, ExitStack() as stack:
        run = f"{folder}/run"
        address = stack.enter_context(echo_server())
        client = stack.enter_context(closing(ready_store(stack.enter_context(End(store, run)), run)))
        serving = stack.enter_context(End(backend, run))
        serving.heard()
        size = round(SIZE_BYTES * scale / guests)
        running = [stack.enter_context(End(soaking_guest, run, address, each, size)) for _ in range(guests)]
        for guest in running:
            give_device(client, guest.heard())
        for guest in running:
            guest.go_on()
        for guest in running:
            guest.hear_in_the_end()
        warm = holdings(serving.pid)
        for guest in running:
            guest.go_on()
        for guest in running:
            size, unequal = guest.hear_in_the_end()
            outcome.size_bytes += size
            outcome.unequal += unequal
        outcome.descriptors, outcome.mappings, outcome.resident_kib = zip(warm, holdings(serving.pid), strict=True)
    outcome.seconds = time.monotonic() - began
    return outcome


def main() -> None:
    """Soak and print the outcome; the exit status is 1 if a hash was unequal."""
    parser = argparse.ArgumentParser(prog="python -m refimpl.testing.soak", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the whole soak")
    parser.add_argument("--guests", type=int, default=GUESTS)
    options = parser.parse_args()
    outcome = soak(options.scale, options.guests)
    print(outcome)
    raise SystemExit(outcome.unequal > 0)


if __name__ == "__main__":
    main()
