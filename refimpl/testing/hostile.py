"""Peers that can write any byte: the other side of the tests of rules against hostile peers.

Both speak the protocol by raw bytes (:mod:`refimpl.testing.raw`) over any :class:`~refimpl.platform.Platform`. Left to
their defaults they behave; every step can be done differently: any node, index, slot, order, ref, port, at any time.
They never check what they are told, and never give a wait up silently: what does not come in time is an AssertionError.

    frontend = HostileFrontend(platform, backend_id=0)
    frontend.connect()                                   # the handshake, by hand
    frontend.push(socket_request(req_id=1, id=7))
    assert frontend.await_response(1).ret == 0
    frontend.commands["req_prod"] = 2**31                # and now for something else

Spec: Xenstore, Commands Ring, Indexes Page and Data ring.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

from refimpl.platform import GrantedPages, MappedPages, Platform
from refimpl.testing.raw import SLOTS, CommandsPage, IndexesPage

INITIALISING, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED = range(1, 7)
#: Seconds after which what should have come is called lost.
PATIENCE = 30.0


class HostilePeer:
    """What both have: a directory in xenstore, a port, and waits that end."""

    commands: CommandsPage
    port: int
    #: Seconds after which a wait for a condition looks again with no event having come; None for never.
    look_every: float | None = None

    def __init__(self, platform: Platform, own: str, others: str, patience: float) -> None:
        self.platform = platform
        self.path = own
        self.other_path = others
        self.patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what was granted, mapped and bound, with no word to the peer."""
        raise NotImplementedError

    def write_node(self, name: str, value: bytes | int) -> None:
        """Write one of our nodes: bytes as they are, a number in decimal."""
        self.platform.store.write(f"{self.path}/{name}", value if isinstance(value, bytes) else b"%d" % value)

    def remove_node(self, name: str) -> None:
        """Remove one of our nodes."""
        self.platform.store.remove(f"{self.path}/{name}")

    def set_state(self, state: bytes | int) -> None:
        """Write our ``state``, which may be anything."""
        self.write_node("state", state)

    def _new_slots(self, private: int, shared: str) -> list[int]:
        """Return the free-running indexes between a private index and a shared one. Raises AssertionError if wild."""
        count = (self.commands[shared] - private) % 2**32
        if count > SLOTS:
            raise AssertionError(f"the peer's {shared} is wild: {self.commands}")
        return [(private + n) % 2**32 for n in range(count)]

    def other_node(self, name: str) -> bytes | None:
        """Read one of the peer's nodes."""
        return self.platform.store.read_or_none(f"{self.other_path}/{name}")

    def await_state(self, *states: int) -> int:
        """Wait until the peer's state is one of these; a peer whose node is gone is Closed."""
        return self.await_other("state", lambda value: value is None or int(value) in states, f"state {states}")

    def await_other(self, name: str, accept: Callable[[bytes | None], bool], what: str) -> int:
        """Wait until one of the peer's nodes is as wanted; return it as a number, Closed if it is gone."""
        store, path, changed = self.platform.store, f"{self.other_path}/{name}", threading.Event()
        deadline = time.monotonic() + self.patience
        watch = store.watch(path, lambda _: changed.set())
        try:
            while True:
                changed.clear()
                value = store.read_or_none(path)
                if accept(value):
                    return CLOSED if value is None else int(value)
                if not changed.wait(max(0.0, deadline - time.monotonic())):
                    raise AssertionError(f"no {what} in time: {path} is {value!r}")
        finally:
            watch.cancel()

    def await_true(self, condition: Callable[[], object], what: str) -> None:
        """Wait for events until the condition, looked at again after each, holds."""
        deadline = time.monotonic() + self.patience
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {what} in time; commands ring: {self.commands}")
            for port in self.platform.wait(left if self.look_every is None else min(left, self.look_every)):
                self.platform.rearm(port)

    def notify(self, port: int | None = None) -> None:
        """Notify the commands ring's port, or another."""
        self.platform.notify(self.port if port is None else port)


class DataRing:
    """A data ring seen raw: its indexes page, its pages (``data``: the ``in`` half, then ``out``), its port.

    ``ref`` is the grant of the indexes page; ``held`` is what keeps the memory.
    """

    def __init__(
        self,
        ref: int,
        indexes: IndexesPage,
        data: memoryview,
        port: int,
        held: Sequence[GrantedPages | MappedPages],
    ) -> None:
        self.ref = ref
        self.indexes = indexes
        self.data = data
        self.port = port
        self.held = tuple(held)

    @property
    def half_bytes(self) -> int:
        """Bytes of each half."""
        return len(self.data) // 2

    def read(self, half: str, index: int, count: int) -> bytes:
        """Copy ``count`` bytes from free-running ``index`` of half ``"in"`` or ``"out"``, around the border."""
        base = 0 if half == "in" else self.half_bytes
        return bytes(self.data[base + (index + n) % self.half_bytes] for n in range(count))

    def write(self, half: str, index: int, value: bytes) -> None:
        """Write bytes from free-running ``index`` of a half on, around the border."""
        base = 0 if half == "in" else self.half_bytes
        for n, byte in enumerate(value):
            self.data[base + (index + n) % self.half_bytes] = byte

    def produce(self, half: str, value: bytes) -> None:
        """Write bytes where the half's producer index stands and move the index; full or not."""
        index = self.indexes[f"{half}_prod"]
        self.write(half, index, value)
        self.indexes[f"{half}_prod"] = index + len(value)

    def consume(self, half: str) -> bytes:
        """Copy what lies between the half's indexes and move the consumer's."""
        first, end = self.indexes[f"{half}_cons"], self.indexes[f"{half}_prod"]
        value = self.read(half, first, (end - first) % 2**32)
        self.indexes[f"{half}_cons"] = end
        return value

    def release(self) -> None:
        """Let go of the memory and give the pages back."""
        self.indexes.release()
        self.data.release()
        for pages in self.held:
            pages.end() if isinstance(pages, GrantedPages) else pages.unmap()
