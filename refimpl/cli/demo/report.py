"""What the demo prints: the steps as they happen, then a table of what crossed."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

#: How long a line waits for an earlier one of another process.
_HOLD_SECONDS = 0.2


@dataclass
class _Transfer:
    """One file that reached somebody."""

    who: str
    path: str
    source: str
    bytes: int
    is_right: bool


class Report:
    """Collects the events of all processes, prints them in the order they come, and knows whether all was right."""

    def __init__(self, output: IO[str], *, quiet: bool) -> None:
        self._output = output
        self._quiet = quiet
        self._lock = threading.Lock()
        # Events of several processes, held back a moment so that they can be printed in the order they happened.
        self._held: list[tuple[float, int, str]] = []
        self._arrivals = itertools.count()
        self._expected: dict[str, tuple[int, str]] = {}
        self._transfers: list[_Transfer] = []
        self._guests: dict[str, dict[str, Any]] = {}
        self._domids: dict[str, str] = {}
        self._backend: dict[str, Any] = {}

    def expect(self, path: str, content: bytes) -> None:
        """Say what a fetch of ``path`` must give."""
        self._expected[path] = (len(content), hashlib.sha256(content).hexdigest())

    def say(self, text: str, at: float | None = None) -> None:
        """Print a line, unless told to be quiet, in its place by ``at``, a time of the clock all processes share."""
        if not self._quiet:
            with self._lock:
                happened = time.monotonic() if at is None else at
                heapq.heappush(self._held, (happened, next(self._arrivals), text))
            self.flush(time.monotonic() - _HOLD_SECONDS)

    def flush(self, until: float = math.inf) -> None:
        """Print what is held back of before ``until``."""
        with self._lock:
            while self._held and self._held[0][0] <= until:
                print(heapq.heappop(self._held)[2], file=self._output, flush=True)

    def take_line(self, line: str) -> None:
        """Take an event as a child printed it."""
        try:
            self.take(json.loads(line))
        except json.JSONDecodeError:
            self.say(line.rstrip())

    def take(self, event: dict[str, Any]) -> None:
        """Take an event: a protocol step, a transfer, or a process's sums."""
        who = event["who"]
        if "what" in event:
            self._print_step(who, event)
        elif "fetched" in event:
            self._take_transfer(who, event)
        elif "domid" in event:
            self._domids[who] = str(event["domid"])
        elif who == "backend":
            self._backend = event["statistics"]
        else:
            self._guests[who] = event["statistics"]

    def _print_step(self, who: str, event: dict[str, Any]) -> None:
        if who == "backend":
            names = {domid: name for name, domid in self._domids.items()}
            who = f"backend for {names.get(str(event['guest']), event['guest'])}"
        self.say(f"{who:<20} {event['section']:<22} {event['what']}", event["at"])

    def _take_transfer(self, who: str, event: dict[str, Any]) -> None:
        found = (event["bytes"], event["sha256"])
        is_right = found == self._expected.get(event["fetched"])
        self._transfers.append(_Transfer(who, event["fetched"], event["source"], event["bytes"], is_right))
        verdict = "SHA-256 equal" if is_right else "SHA-256 DIFFERS"
        self.say(
            f"{who:<20} {'':<22} has {event['fetched']} from {event['source']}: {event['bytes']} bytes, {verdict}",
            event["at"],
        )

    @property
    def is_right(self) -> bool:
        """Whether every file arrived where it should, each byte right, and both ends counted the same."""
        visits = len(self._expected) + 1  # Guest 2's file is fetched twice.
        return len(self._transfers) == visits and all(t.is_right for t in self._transfers) and self._counts_agree()

    def _counts_agree(self) -> bool:
        """Whether each guest counted the bytes that the backend counted for it."""
        return len(self._guests) == 2 and all(
            (mine["bytes_sent"], mine["bytes_received"]) == (theirs["bytes_out"], theirs["bytes_in"])
            and mine["commands"] == theirs["commands"]
            for mine, theirs in ((mine, self._sums_of(who)) for who, mine in self._guests.items())
        )

    def _sums_of(self, who: str) -> dict[str, Any]:
        sums: dict[str, Any] = self._backend.get(
            self._domids.get(who, ""), {"bytes_out": 0, "bytes_in": 0, "commands": {}}
        )
        return sums

    def print_json(self) -> None:
        """Print everything as one object."""
        transfers = [t.__dict__ for t in self._transfers]
        result = {"right": self.is_right, "transfers": transfers, "guests": self._guests, "backend": self._backend}
        print(json.dumps(result), file=self._output)

    def print_table(self) -> None:
        """Print what crossed, by guest, and the verdict."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title="What crossed", title_justify="left")
        self._guests = dict(sorted(self._guests.items()))
        for heading in ("", *self._guests):
            table.add_column(heading, justify="right" if heading else "left")
        rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
            ("commands", lambda sums: " ".join(f"{n} {c}" for n, c in sorted(sums["commands"].items()))),
            ("data rings set up", lambda sums: str(sums["connections"])),
            ("bytes sent through out", lambda sums: f"{sums['bytes_sent']:,}"),
            ("bytes received through in", lambda sums: f"{sums['bytes_received']:,}"),
            ("notifications sent", lambda sums: f"{sums['notifications_sent']:,}"),
        ]
        for name, value in rows:
            table.add_row(name, *(value(sums) for sums in self._guests.values()))
        table.add_row(
            "notifications from the backend", *(f"{self._sums_of(w)['notifications_sent']:,}" for w in self._guests)
        )
        equal = {who: [t.is_right for t in self._transfers if t.who == who] for who in self._guests}
        table.add_row(
            "files fetched, SHA-256 equal", *(f"{sum(e)} of {len(e)}" if e else "serves" for e in equal.values())
        )
        Console(file=self._output, width=100).print(table)
        right = sum(t.is_right for t in self._transfers)
        print(
            f"{right} of {len(self._expected) + 1} transfers right",
            "and both ends counted the same" if self._counts_agree() else "BUT the ends counted differently",
            file=self._output,
        )
