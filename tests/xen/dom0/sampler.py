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
from types import FrameType

INTERVAL_SECONDS = 0.01


class Sampler:
    """The signals' handlers, and what they saw."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._running: Counter[str] = Counter()
        self._within: Counter[str] = Counter()

    def start(self) -> None:
        """Look from now on."""
        signal.signal(signal.SIGPROF, self._look)
        signal.signal(signal.SIGUSR1, self._write)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        names = []
        while frame is not None:
            names.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}")
            frame = frame.f_back
        self._running[names[0]] += 1
        self._within.update(set(names))

    def _write(self, _signal: int, _frame: FrameType | None) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"running": self._running, "within": self._within}))
        os.replace(new, self._file)
        self._running.clear()
        self._within.clear()


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
