"""How fast, over real Xen under emulation: each frontend against each backend, in one boot, turn by turn.

Nothing is asserted of times; what is seen goes to results/speed.json and, in words, to the console.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import backends
import pytest
from guests import RESULTS, Guest, started
from programs import BackendProcess, Conversation

pytestmark = pytest.mark.timeout(1200)
#: So many rounds, but none begun after so many seconds.
ROUNDS, LONGEST_SECONDS = 3, 150
REPEATS = 2
MEBIBYTES, ROUND_TRIPS, CONNECTIONS = 16, 200, 30
UNITS = {"out": "MiB/s", "in": "MiB/s", "ping": "us", "connect": "1/s"}


@contextlib.contextmanager
def serving(back: str) -> Iterator[int | None]:
    """Have a backend; yield the process id of refimpl's."""
    if back == "refimpl":
        process = BackendProcess()
        try:
            yield process.process
        finally:
            process.stop()
    else:
        with backends.running(back):
            yield None


def own_seconds(process: int) -> float:
    """Return the processor time a process has had."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / 100


def domain_seconds() -> dict[str, float]:
    """Return the processor time each domain has had, as Xen counts it."""
    lines = subprocess.check_output(["xl", "list"], text=True).splitlines()[1:]
    return {line.split()[0]: float(line.split()[-1]) for line in lines}


def in_unit(case: str, seconds: float) -> float:
    """Turn a case's seconds into its unit."""
    if case == "ping":
        return seconds / ROUND_TRIPS * 1e6
    return (CONNECTIONS if case == "connect" else MEBIBYTES) / seconds


def measure(guest: Guest, front: str, backend: int | None) -> Iterator[dict[str, float | str]]:
    """Measure each case with one frontend, a few times."""
    with closing(Conversation(guest, f"python3 tests/xen/guest/speed.py {front}", patience=120)) as program:
        for _ in range(REPEATS):
            for case in UNITS:
                domains, own = domain_seconds(), own_seconds(backend) if backend else 0.0
                seconds, user, system = map(float, program.ask(case).split())
                after = domain_seconds()
                yield {
                    "case": case,
                    "value": in_unit(case, seconds),
                    "seconds": seconds,
                    "frontend user": user,
                    "frontend system": system,
                    "backend": own_seconds(backend) - own if backend else 0.0,
                    "guest": after[guest.name] - domains[guest.name],
                    "dom0": after["Domain-0"] - domains["Domain-0"],
                }


def test_speed(capsys: pytest.CaptureFixture[str]) -> None:
    seen: dict[tuple[str, str, str], list[dict[str, float | str]]] = defaultdict(list)
    peers = subprocess.Popen(["python3", Path(__file__).with_name("speed_peers.py")])
    try:
        start = time.monotonic()
        for turn in range(ROUNDS):
            if time.monotonic() - start > LONGEST_SECONDS:
                break
            for back in ("linux-fixed", "refimpl"):
                with serving(back) as backend, started(f"speed{turn}-{back}", pvcalls=True) as guest:
                    for front in ("refimpl 4", "refimpl 9") if back == "refimpl" else ("refimpl 4",):
                        for result in measure(guest, front, backend):
                            seen[front, back, str(result["case"])].append(result)
                    guest.make_device_anew()
                    for result in measure(guest, "linux", backend):
                        seen["linux", back, str(result["case"])].append(result)
    finally:
        peers.kill()
        peers.wait()
        rows = [{"front": f, "back": b, "case": c, "runs": runs} for (f, b, c), runs in seen.items()]
        (RESULTS / "speed.json").write_text(json.dumps(rows, indent=1))
        with capsys.disabled():
            print()
            for (front, back, case), runs in seen.items():
                print(in_words(front, back, case, runs))


def in_words(front: str, back: str, case: str, runs: list[dict[str, float | str]]) -> str:
    """Say in a line what was seen: median and range, and each one's share of a processor meanwhile."""
    values = sorted(float(run["value"]) for run in runs)
    shares = {k: statistics.median(float(r[k]) / float(r["seconds"]) for r in runs) for k in list(runs[0])[3:]}
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    spread = f"{statistics.median(values):8.1f} {UNITS[case]:5} ({values[0]:.1f}-{values[-1]:.1f})"
    return f"{front:9} on {back:11} {case:7} {spread}; {told}"
