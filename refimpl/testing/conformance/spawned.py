"""A domain in a process of its own, which can be killed.

The processes are forked from multiprocessing's fork server, which has the modules imported and no domain: starting one
takes milliseconds, and none inherits anything of this process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Mapping
from typing import Any

from refimpl.testing.conformance.agent import serve
from refimpl.testing.conformance.factory import Spawned
from refimpl.testing.conformance.remote import PATIENCE, RemotePlatform

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["refimpl.testing", "refimpl.store.client", "refimpl.shm.platform", "refimpl.xen.domain"]
)


class SpawnedProcess(Spawned):
    """A process that joins by ``function(**options)``, named as ``module:function``.

    Raises what the function raises there.
    """

    def __init__(self, function: str, options: Mapping[str, object]) -> None:
        ours, theirs = _context.Pipe()
        self._is_over = False
        with theirs:
            self._process = _context.Process(target=serve, args=(theirs, function, dict(options)), daemon=True)
            self._process.start()
        self.pid = self._process.pid
        try:
            self.platform = self._remote = RemotePlatform(ours)
        except BaseException:
            self.kill()
            raise

    def start(self, function: Callable[..., Any], *arguments: Any) -> Callable[[float], Any]:
        """See :meth:`Spawned.start`."""
        number = self._remote.link.begin("run", function, arguments)
        return lambda patience: self._remote.link.result_of(number, patience)

    def kill(self) -> None:
        """See :meth:`Spawned.kill`."""
        if not self._is_over:
            self._process.kill()
            self._end()

    def close(self) -> None:
        """See :meth:`Spawned.close`."""
        if not self._is_over:
            self._remote.link.close()
            self._process.join(PATIENCE)
            self._process.kill()
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self._process.join()
        self._process.close()
        with contextlib.suppress(AttributeError):  # it never joined
            self._remote.link.close()
