"""What a program can see of the protocol: each step as it happens, and sums.

Spec: every section; each event names its own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from refimpl.commands.address_format import InternetAddress
from refimpl.commands.message import Command
from refimpl.layout import Structure


class Event(NamedTuple):
    """One step of the protocol: the document's ``section`` it comes from, and in a line what happened."""

    section: str
    what: str

    def __str__(self) -> str:
        return f"[{self.section}] {self.what}"


#: Called at each step, in the thread that does it: it must not block nor use the frontend.
Observer = Callable[[Event], None]

STATE_MACHINE = "State Machine"
FRONTEND_NODES = "Frontend XenBus Nodes"
BACKEND_NODES = "Backend XenBus Nodes"
DATA_RING = "Workflow"

#: The section of each command.
SECTION_OF = {command: command.name.capitalize() for command in Command}
_NOT_SHOWN = frozenset({"req_id", "cmd", "len"})


def describe(request: Structure) -> str:
    """Return a request as a call: ``CONNECT(id=0x1, addr=192.0.2.1:80, flags=0, ref=8, evtchn=3) req_id=0``."""
    members = {name: getattr(request, name) for name in type(request).LAYOUT.value_names}
    shown = {name: value for name, value in members.items() if name not in _NOT_SHOWN}
    for name in shown:
        if name in ("id", "id_new"):
            shown[name] = hex(members[name])
        elif name == "addr":
            shown[name] = InternetAddress.from_request(members[name], members["len"])
    arguments = ", ".join(f"{name}={value}" for name, value in shown.items())
    return f"{Command(members['cmd']).name}({arguments}) req_id={members['req_id']}"


@dataclass
class Statistics:
    """What crossed, so far: ``commands`` by name, bytes of the data rings, events both ways."""

    commands: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    notifications_sent: int = 0
    notifications_received: int = 0


class Tally:
    """The sums of what has ended; live connections keep their own, under their own lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums = Statistics()

    def add_connection(self) -> None:
        """Count a data ring set up."""
        with self._lock:
            self._sums.connections += 1

    def add(self, *, sent: int = 0, received: int = 0, notifications: int = 0) -> None:
        """Add bytes sent and received and notifications sent."""
        with self._lock:
            self._sums.bytes_sent += sent
            self._sums.bytes_received += received
            self._sums.notifications_sent += notifications

    def add_command(self, command: Command, *, notified: bool) -> None:
        """Count a request sent, and its notification."""
        with self._lock:
            self._sums.commands[command.name] += 1
            self._sums.notifications_sent += notified

    def snapshot(self) -> Statistics:
        """Return a copy of the sums."""
        with self._lock:
            sums = self._sums
            return Statistics(
                sums.commands.copy(),
                sums.connections,
                sums.bytes_sent,
                sums.bytes_received,
                sums.notifications_sent,
                sums.notifications_received,
            )
