"""The subjects, side by side: PV Calls at several ring orders, a socket of the system's, and socat's relays.

A round has processes of its own for all of it: peers, relays, the run with its backend, and one measuring process a
subject. They are all up before the first case, and one case after another is given to each subject in turn: so the
figures that are compared are taken within moments of each other, and no round inherits anything from the last one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refimpl.cli.bench.guest import connect_directly
from refimpl.cli.bench.workloads import BEST_RING_ORDER, RING_ORDERS, SOCKETS_RING_ORDER, Case, Effort
from refimpl.cli.processes import Child
from refimpl.cli.signals import held_back
from refimpl.errors import RefimplError

_START_SECONDS = 20.0
#: More connections than that at a time would be as many socat processes.
_MOST_RELAYED_SOCKETS = 64
#: Each work's peer.
_PEER = {"stream": "stream", "rtt": "stream", "connect": "end", "sockets": "echo"}
_SOCAT_OPTIONS: Mapping[str, Sequence[str]] = {"socat": (), "socat-256k": ("-b", "262144")}


@dataclass(frozen=True, slots=True)
class Subject:
    """One of those compared; ``ring_order`` is PV Calls' alone."""

    name: str
    ring_order: int | None = None

    def takes(self, case: Case) -> bool:
        """Say whether the case is for it."""
        if self.name == "pvcalls":
            if case.work == "stream":
                return True
            return self.ring_order == (SOCKETS_RING_ORDER if case.work == "sockets" else BEST_RING_ORDER)
        if self.name == "direct":
            return True
        # A relay takes a connection before it has reached the peer: no figure to compare.
        return case.work != "connect" and (case.open_sockets or 1) <= _MOST_RELAYED_SOCKETS


def has_socat() -> bool:
    """Say whether socat is installed."""
    return shutil.which("socat") is not None


def subjects(*, quick: bool) -> list[Subject]:
    """Return what this machine can compare; the direct socket first, it is what the others are divided by."""
    orders = (SOCKETS_RING_ORDER, BEST_RING_ORDER) if quick else RING_ORDERS
    relays = list(_SOCAT_OPTIONS) if has_socat() else []
    return [Subject("direct"), *(Subject("pvcalls", order) for order in orders), *map(Subject, relays)]


class _Measurer:
    """A measuring process."""

    def __init__(self, child: Child) -> None:
        assert child.process.stdin is not None and child.process.stdout is not None
        self._orders, self._answers = child.process.stdin, child.process.stdout

    def await_start(self) -> None:
        """Wait until it can be given a case. Raises RefimplError."""
        self._answer()

    def measure(self, case: Case, port: int, effort: Effort) -> tuple[float, float | None]:
        """Return the case's figure and 99th percentile. Raises RefimplError."""
        order = {"case": dataclasses.asdict(case), "port": port, "effort": dataclasses.asdict(effort)}
        self._orders.write(json.dumps(order).encode() + b"\n")
        self._orders.flush()
        answer = self._answer()
        if "failed" in answer:
            raise RefimplError(f"{case} failed: {answer['failed']}")
        return answer["figure"], answer["p99"]

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise RefimplError("a measuring process ended; it said why above")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Stage:
    """The processes of one round."""

    def __init__(self, compared: Sequence[Subject], measurers: Sequence[_Measurer], ports: Mapping[str, Any]) -> None:
        self._measurers = dict(zip(compared, measurers, strict=True))
        self._ports = ports

    def measure(self, subject: Subject, case: Case, effort: Effort) -> tuple[float, float | None]:
        """Return the subject's figure for the case, and the 99th percentile where there is one."""
        ports = self._ports.get(subject.name, self._ports["direct"])
        return self._measurers[subject].measure(case, ports[_PEER[case.work]], effort)


@contextlib.contextmanager
def stage(compared: Sequence[Subject]) -> Iterator[Stage]:
    """Start all processes of a round; afterwards every one of them has ended."""
    with contextlib.ExitStack() as stack:
        with held_back():
            run = str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refimpl-bench-")), "run"))
        peers = {role: _peer(stack, role) for role in dict.fromkeys(_PEER.values())}
        ports = {"direct": {role: _port_of(peer) for role, peer in peers.items()}}
        for subject in compared:
            if subject.name in _SOCAT_OPTIONS:
                ports[subject.name] = {
                    role: _relay(stack, port, _SOCAT_OPTIONS[subject.name]) for role, port in ports["direct"].items()
                }
        stack.enter_context(Child("host", "--run", run, waits_until_ready=True, stdout=subprocess.DEVNULL))
        measurers = [_measurer(stack, subject, run) for subject in compared]
        for measurer in measurers:
            measurer.await_start()
        yield Stage(compared, measurers, ports)


def _peer(stack: contextlib.ExitStack, role: str) -> Child:
    return stack.enter_context(Child("bench-peer", role, stdout=subprocess.PIPE))


def _port_of(peer: Child) -> int:
    assert peer.process.stdout is not None
    with peer.process.stdout as said:
        return int(said.readline() or 0)


def _measurer(stack: contextlib.ExitStack, subject: Subject, run: str) -> _Measurer:
    guest = ("--run", run, "--ring-order", str(subject.ring_order)) if subject.ring_order is not None else ()
    child = stack.enter_context(Child("bench-guest", *guest, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    assert child.process.stdin is not None and child.process.stdout is not None
    stack.callback(child.process.stdout.close)
    stack.callback(child.process.wait)
    stack.callback(child.process.stdin.close)  # The first to be called: it ends the process.
    return _Measurer(child)


def _relay(stack: contextlib.ExitStack, port: int, options: Sequence[str]) -> int:
    """Run a socat that relays to the port, and return where it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        own_port: int = probe.getsockname()[1]
    listen = f"TCP-LISTEN:{own_port},bind=127.0.0.1,reuseaddr,fork,nodelay,backlog=1024"
    relay = subprocess.Popen(
        ["socat", *options, listen, f"TCP:127.0.0.1:{port},nodelay"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    stack.callback(relay.wait)
    stack.callback(relay.terminate)
    give_up_at = time.monotonic() + _START_SECONDS
    while True:
        try:
            connect_directly(own_port).close()
            return own_port
        except ConnectionRefusedError:
            if time.monotonic() > give_up_at:
                raise RefimplError("socat does not listen") from None
            time.sleep(0.005)
