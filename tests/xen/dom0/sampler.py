"""Run a program and look every 10 ms of its processor time where its main thread is: a profile that distorts little.

``python3 sampler.py FILE PROGRAM ARGUMENTS...``. Each SIGUSR1 writes to FILE, as JSON, what was seen since the last:
how often which function was running, and how often it or what it called was. A function in C, a system call above all,
counts for the Python function that called it.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

INTERVAL_SECONDS = 0.01


class Sampler:
    """The signals' handlers, and what they saw."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._running: Counter[CodeType] = Counter()
        self._within: Counter[CodeType] = Counter()

    def start(self) -> None:
        """Look from now on."""
        signal.signal(signal.SIGPROF, self._look)
        signal.signal(signal.SIGUSR1, self._write)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        if frame is None or frame.f_code is Sampler._look.__code__:
            return  # To look takes longer than it should.
        self._running[frame.f_code] += 1
        codes = set()
        while frame is not None:
            codes.add(frame.f_code)
            frame = frame.f_back
        self._within.update(codes)

    def _write(self, _signal: int, _frame: FrameType | None) -> None:
        seen = {"running": by_name(self._running), "within": by_name(self._within)}
        self._running.clear()
        self._within.clear()
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(seen))
        os.replace(new, self._file)


def by_name(counts: Counter[CodeType]) -> dict[str, int]:
    """Return the counts by the functions' names, with their modules'."""
    named: Counter[str] = Counter()
    for code, count in list(counts.items()):
        named[f"{Path(code.co_filename).stem}.{code.co_qualname}"] += count
    return dict(named)


def main() -> None:
    """Run the program, which sees its own arguments."""
    file, program, *arguments = sys.argv[1:]
    Sampler(Path(file)).start()
    sys.argv[:] = [program, *arguments]
    if program == "refimpl":
        runpy.run_module("refimpl", run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(program).parent)
        runpy.run_path(program, run_name="__main__")


main()
