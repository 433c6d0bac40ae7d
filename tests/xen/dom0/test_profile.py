"""Where the time goes, over real Xen under emulation: both ends are looked at every 10 ms of their processor time.

Nothing is asserted of times; what is seen goes to results/profile.json and, in words, to the console. Which share of a
second each end has had, and of Linux's own ends too, is in test_speed.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from guests import RESULTS, Guest, started
from programs import BackendProcess, Conversation
from test_speed import UNITS, in_unit

pytestmark = pytest.mark.timeout(600)
SAMPLER = "python3 tests/xen/dom0/sampler.py"
SEEN = Path("/tmp/profile.json")
FRONTS = ("refimpl 4", "refimpl 9", "linux")
#: How often each case is looked at: one alone is over after a few looks.
REPEATS = 10
#: Of the functions that ran most often, so many are told.
MOST = 10


def backends_samples(backend: BackendProcess, patience: float = 30) -> Any:
    """Return what was seen of the backend since the last time."""
    SEEN.unlink(missing_ok=True)
    os.kill(backend.process, signal.SIGUSR1)
    deadline = time.monotonic() + patience
    while not SEEN.exists():
        assert time.monotonic() < deadline, "the backend's sampler does not answer"
        time.sleep(0.01)
    return json.loads(SEEN.read_text())


def frontends_samples(guest: Guest, process: str) -> Any:
    """Return what was seen of the frontend since the last time."""
    return json.loads(
        guest.run(f"rm -f {SEEN}; kill -USR1 {process}; until [ -f {SEEN} ]; do usleep 9999; done; cat {SEEN}")
    )


def test_where_the_time_goes(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = []
    peers = subprocess.Popen(["python3", Path(__file__).with_name("speed_peers.py")])
    backend = BackendProcess(sampled_into=SEEN)
    try:
        with started("profiled", pvcalls=True) as guest:
            for front in FRONTS:
                if front == "linux":
                    guest.make_device_anew()
                rows += profile(guest, backend, front)
    finally:
        backend.stop()
        peers.kill()
        peers.wait()
        (RESULTS / "profile.json").write_text(json.dumps(rows, indent=1))
        with capsys.disabled():
            for row in rows:
                print("\n".join(in_words(row)))


def profile(guest: Guest, backend: BackendProcess, front: str) -> list[dict[str, Any]]:
    """Look at each case with one frontend."""
    is_ours = front != "linux"
    sampler = f"{SAMPLER} {SEEN}" if is_ours else "python3"
    rows = []
    with closing(Conversation(guest, f"sh -c 'echo $$; exec {sampler} tests/xen/guest/speed.py {front}'")) as program:
        process = program.hear()
        for case in UNITS:
            program.ask(case)  # So that nothing is done for the first time when it is looked at.
            backends_samples(backend)
            frontend = frontends_samples(guest, process) if is_ours else {}
            times = [map(float, program.ask(case).split()) for _ in range(REPEATS)]
            seconds, user, system = map(sum, zip(*times, strict=True))
            row = {"front": front, "case": case, "value": in_unit(case, seconds / REPEATS), "seconds": seconds}
            row |= {"frontend user": user, "frontend system": system, "backend": backends_samples(backend)}
            rows.append(row | {"frontend": frontends_samples(guest, process) if is_ours else frontend})
    return rows


def in_words(row: dict[str, Any]) -> list[str]:
    """Say where an end was, most often first: its own time, and in brackets with what it called."""
    lines = [
        f"{row['front']} on refimpl, {row['case']}: {row['value']:.1f} {UNITS[row['case']]}; the frontend "
        f"had {row['frontend user'] / row['seconds']:.0%} user, {row['frontend system'] / row['seconds']:.0%} system"
    ]
    for end in ("frontend", "backend"):
        running = row[end].get("running", {})
        total = sum(running.values())
        for name, count in sorted(running.items(), key=lambda item: -item[1])[:MOST]:
            lines.append(f"  {end:8} {count / total:5.1%} ({row[end]['within'][name] / total:5.1%}) {name}")
    return lines
