"""A guest that does anything: random requests, random words in every page it shares, random nodes. See ``fuzzing``."""

from __future__ import annotations

import random
from contextlib import suppress

from refimpl.errors import RefimplError
from refimpl.shm import ShmPlatform
from refimpl.testing import raw
from refimpl.testing.hostile import CLOSED, CONNECTED, INITIALISING
from refimpl.testing.hostile_frontend import HostileFrontend
from refimpl.testing.processes import Line

#: Numbers at which something changes.
EDGES = (0, 1, 2, 31, 32, 33, 4095, 4096, 4097, 2**31 - 1, 2**31, 2**32 - 1)
#: What a node may be made to say.
NODES = (b"", b"0", b"7", b"-1", b" 1", b"1_0", b"9" * 50, b"\xff", b"4294967295")
_PATIENCE = 3.0


def number(pick: random.Random) -> int:
    """Pick a 32-bit number: an edge, a small one or any."""
    return pick.choice((pick.choice(EDGES), pick.randrange(64), pick.randrange(2**32)))


class Attack:
    """A guest that does anything, for so many steps."""

    def __init__(self, platform: ShmPlatform, address: tuple[str, int], seed: int) -> None:
        self._platform = platform
        self._address = address
        self._pick = random.Random(seed)
        self._req_id = 0
        self.connections = 0
        self._end = HostileFrontend(platform, patience=_PATIENCE)

    def run(self, steps: int) -> None:
        """Take the steps; begin anew where the backend has closed."""
        self._begin()
        for step in range(steps):
            if step % 64 == 0 and self._end.other_node("state") != b"%d" % CONNECTED:
                self._begin_again()
            with suppress(RefimplError, AssertionError, ValueError):  # Our own pages may have been ended.
                self._act()
        self._end.close()

    def _begin(self) -> None:
        self.connections += 1
        self._end.connect()

    def _begin_again(self) -> None:
        self._end.set_state(CLOSED)
        with suppress(AssertionError):
            self._end.await_state(CLOSED)
        self._end.close()
        self._end = HostileFrontend(self._platform, patience=_PATIENCE)
        self._end.set_state(INITIALISING)
        with suppress(AssertionError):
            self._begin()

    def _act(self) -> None:
        self._pick.choices(
            (
                self._push,
                self._ring_word,
                self._data,
                self._notify,
                self._ring,
                self._node,
                self._commands_word,
            ),
            (60, 20, 5, 10, 4, 0.1, 0.5),
        )[0]()

    def _push(self) -> None:
        pick, end = self._pick, self._end
        end.rsp_cons = end.commands["rsp_prod"]
        self._req_id += 1
        ids = pick.randrange(6), pick.randrange(6)
        ring = pick.choice(end.rings) if end.rings and pick.random() < 0.9 else None
        ref, port = (ring.ref, ring.port) if ring is not None else (number(pick), number(pick))
        there = raw.address(*self._address) if pick.random() < 0.8 else pick.randbytes(28)
        slot = pick.choice(
            (
                raw.socket_request(self._req_id, ids[0]),
                raw.connect_request(self._req_id, ids[0], there, ref, port),
                raw.release_request(self._req_id, ids[0]),
                raw.bind_request(self._req_id, ids[0], raw.address("127.0.0.1", 0)),
                raw.listen_request(self._req_id, ids[0]),
                raw.accept_request(self._req_id, ids[0], ids[1], ref, port),
                raw.poll_request(self._req_id, ids[0]),
                raw.request(pick.randrange(9), self._req_id, pick.randbytes(56)),
            )
        )
        end.push(slot, notify=pick.random() < 0.8)

    def _ring_word(self) -> None:
        if self._end.rings:
            ring = self._pick.choice(self._end.rings)
            name = self._pick.choice((*raw.INDEXES_WORDS, ""))
            value = number(self._pick)
            if name:
                ring.indexes[name] = value if self._pick.random() < 0.3 else ring.indexes[name] + value % 64
            else:
                ring.indexes.set_word(self._pick.randrange(1024) * 4, value)
            self._platform.notify(ring.port)

    def _data(self) -> None:
        if self._end.rings:
            data = self._pick.choice(self._end.rings).data
            first = self._pick.randrange(len(data) - 64)
            data[first : first + 64] = self._pick.randbytes(64)

    def _notify(self) -> None:
        ports = [self._end.port, *(ring.port for ring in self._end.rings)]
        for _ in range(self._pick.randrange(100)):
            self._platform.notify(self._pick.choice(ports))

    def _ring(self) -> None:
        rings = self._end.rings
        if len(rings) < 6:
            scatter = (lambda refs, _own: refs[::-1]) if self._pick.random() < 0.5 else None
            self._end.make_data_ring(self._pick.choice((1, 1, 2, 5, 9)), refs=scatter)
        else:
            ring = rings.pop(self._pick.randrange(len(rings)))
            self._platform.close_port(ring.port)
            ring.release()

    def _node(self) -> None:
        self._end.write_node(self._pick.choice(("state", "ring-ref", "port", "version")), self._pick.choice(NODES))

    def _commands_word(self) -> None:
        offset = self._pick.randrange(4) if self._pick.random() < 0.3 else self._pick.randrange(1024)
        self._end.commands.set_word(offset * 4, number(self._pick))
        self._end.notify()


def attacking_guest(line: Line, run: str, address: tuple[str, int], seed: int, steps: int) -> None:
    """Be the hostile guest: report the domid, wait, attack, report how many connections it was."""
    with ShmPlatform.join(run, arena_pages=4096) as platform:
        line(platform.domid)
        line.wait()
        attack = Attack(platform, address, seed)
        attack.run(steps)
        line(attack.connections)
