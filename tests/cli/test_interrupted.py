"""Ctrl-C and SIGTERM in the middle of what starts many processes: nothing is left of it, and nothing is said."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import PATIENCE, command


def await_true(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


def processes_in(directory: str) -> list[str]:
    """The processes whose temporary directory this is."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={directory}".encode() in (each / "environ").read_bytes().split(b"\0"):
                found.append((each / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [("demo",), ("bench", "--quick")], ids=lambda words: words[0])
@pytest.mark.parametrize("moment", ["*", "*/run", "*/run/0.socket", "*/run/*.status"])
def test_nothing_is_left_of_what_is_interrupted(directory: str, arguments, number: int, moment: str) -> None:
    """``moment`` is what is waited for in the directory; it is short, since a unix socket's path must fit."""
    folder = Path(directory)
    folder.mkdir()
    with subprocess.Popen(
        command(*arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": directory},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:
        await_true(lambda: list(folder.glob(moment)))
        running.send_signal(number)
        said = running.communicate(timeout=PATIENCE)[1]
    assert (running.returncode, said) == (128 + number, b"")
    assert list(folder.iterdir()) == []
    assert processes_in(directory) == []
