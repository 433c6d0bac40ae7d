"""A domain in a child process of this one, which can be killed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from refimpl.testing.conformance.factory import Spawned
from refimpl.testing.conformance.remote import PATIENCE, RemotePlatform


class SpawnedProcess(Spawned):
    """An agent in a child process; it joins by ``function(**options)``, named as ``module:function``."""

    def __init__(self, function: str, options: Mapping[str, object]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "refimpl.testing.conformance.agent", str(theirs.fileno())]
            self._process = subprocess.Popen(
                [*command, function, json.dumps(dict(options))], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self.pid = self._process.pid
        self._connection = Connection(ours.detach())
        try:
            self.platform = self._remote = RemotePlatform(self._connection)
        except BaseException:
            self.kill()
            raise

    def start(self, function: Callable[..., Any], *arguments: Any) -> Callable[[float], Any]:
        """See :meth:`Spawned.start`."""
        number = self._remote.link.begin("run", function, arguments)
        return lambda patience: self._remote.link.result_of(number, patience)

    def kill(self) -> None:
        """See :meth:`Spawned.kill`."""
        self._process.kill()
        self._process.wait()
        self._disconnect()

    def close(self) -> None:
        """See :meth:`Spawned.close`."""
        self._disconnect()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    def _disconnect(self) -> None:
        link = getattr(self, "_remote", None)
        if link is not None:
            link.link.close()
