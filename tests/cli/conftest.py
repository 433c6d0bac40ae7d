"""The command line as a user has it: real processes, their output, their exit status."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "refimpl", *arguments]


@pytest.fixture
def run() -> Run:
    """``run(*arguments, input=b"")``: run a command to its end."""

    def run(*arguments: str, input: bytes = b"", **more: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command(*arguments), input=input, capture_output=True, timeout=PATIENCE, **more)  # type: ignore[call-overload,no-any-return]

    return run


class Host:
    """A running `refimpl host`."""

    def __init__(self, directory: str, *options: str, **more: Any) -> None:
        """``more`` is for Popen."""
        self.directory = directory
        self.process = subprocess.Popen(
            command("host", "--run", directory, "--json", *options), stdout=subprocess.PIPE, text=True, **more
        )
        assert self.process.stdout is not None
        self.said = json.loads(self.process.stdout.readline())

    @property
    def tool_environment(self) -> dict[str, str]:
        return {**os.environ, "XENSTORED_PATH": self.said["xenstored_path"]}

    def stop(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def directory() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="refimpl-"))
    yield str(folder / "run")
    shutil.rmtree(folder)


@pytest.fixture
def host(directory: str) -> Iterator[Host]:
    host = Host(directory)
    yield host
    host.stop()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number
