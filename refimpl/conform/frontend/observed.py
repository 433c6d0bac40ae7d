"""What a frontend was seen to do: its nodes, its states, its requests, its data rings, and what its program told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from refimpl.conform.probes import NotObservable, require
from refimpl.testing import raw
from refimpl.testing.raw import RawRequest


@dataclass
class Asked:
    """One request: its slot's free-running index, its bytes, and how things stood when it came."""

    index: int
    request: RawRequest
    #: The req_ids that were in flight.
    in_flight: frozenset[int]
    #: What its socket was: "socket", "bound", "listening", "active", or "" for an id that has none.
    socket_was: str

    @property
    def cmd(self) -> int:
        """The command."""
        cmd: int = self.request.cmd
        return cmd

    def field(self, offset: int, size: int) -> int:
        """Read an unsigned number out of the slot."""
        return int.from_bytes(self.request.raw[offset : offset + size], "little")

    @property
    def addr(self) -> bytes:
        """The 28 bytes of ``addr``, of CONNECT and BIND."""
        return self.request.raw[16:44]

    @property
    def len(self) -> int:
        """The field ``len``, of CONNECT and BIND."""
        return self.field(44, 4)


@dataclass
class SeenRing:
    """One data ring, as it was when CONNECT or ACCEPT named it, and what became of it."""

    cmd: int
    ref: int
    evtchn: int
    ring_order: int
    refs: tuple[int, ...]
    #: The six indexes and errors, before the backend wrote any.
    first_words: dict[str, int]
    #: Words of ours that held something else than we wrote, when the ring was released: name -> (found, ours).
    overwritten: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Whether ``in`` held at the end what we had put there.
    in_is_untouched: bool = True
    bytes_in: int = 0
    bytes_out: int = 0
    #: Whether it could be mapped anew while RELEASE was not answered; None where that was not tried.
    held_until_reply: bool | None = None


@dataclass
class Observed:
    """All that was seen of one connection. ``complaints`` are what was wrong at sight: requirement -> words."""

    max_page_order: int
    nodes: dict[str, bytes | None] = field(default_factory=dict)
    nodes_at_end: dict[str, bytes | None] = field(default_factory=dict)
    states: list[int] = field(default_factory=list)
    #: The frontend's state when ours became Connected, and when it became Closing by our own wish.
    state_at_connected: int | None = None
    answered_our_closing: int | None = None
    ring_words: dict[str, int] = field(default_factory=dict)
    requests: list[Asked] = field(default_factory=list)
    rings: list[SeenRing] = field(default_factory=list)
    complaints: dict[str, list[str]] = field(default_factory=dict)
    #: What the driver told of its calls, by name; empty where another program ran.
    told: dict[str, Any] = field(default_factory=dict)
    #: Data that came through ``out`` in the wrong order or with other bytes, by service.
    garbled: list[str] = field(default_factory=list)
    bytes_in: int = 0
    bytes_out: int = 0
    #: Rings of which more bytes crossed one half than it holds.
    wraps: int = 0

    def complain(self, id: str, words: str) -> None:
        """Remember what was wrong at sight."""
        self.complaints.setdefault(id, []).append(words)

    def check(self, *ids: str) -> None:
        """Raise Failed with what was wrong at sight under these ids, if anything was."""
        for id in ids:
            found = self.complaints.get(id, [])
            require(not found, "; ".join(dict.fromkeys(found)))

    def of(self, *cmds: int) -> list[Asked]:
        """Return the requests of these commands. Raises NotObservable where there is none."""
        found = [each for each in self.requests if each.cmd in cmds]
        if not found:
            names = " or ".join(NAMES[cmd] for cmd in cmds)
            raise NotObservable(f"no program made a call that sends {names}")
        return found

    def some_rings(self, *cmds: int) -> list[SeenRing]:
        """Return the data rings that these commands named, or all. Raises NotObservable where there is none."""
        found = [each for each in self.rings if not cmds or each.cmd in cmds]
        if not found:
            raise NotObservable("no program had a connected socket of this kind")
        return found


NAMES = {
    raw.SOCKET: "SOCKET",
    raw.CONNECT: "CONNECT",
    raw.RELEASE: "RELEASE",
    raw.BIND: "BIND",
    raw.LISTEN: "LISTEN",
    raw.ACCEPT: "ACCEPT",
    raw.POLL: "POLL",
}
