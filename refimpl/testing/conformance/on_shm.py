"""The suite's surroundings on shm: a run of its own, its host in a process that can be killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refimpl.platform import Platform
from refimpl.testing.conformance.factory import Factory, Peers, Spawned
from refimpl.testing.conformance.spawned import SpawnedProcess

#: Enough for every check, and few enough to be granted to the last one.
ARENA_PAGES = 1024

#: Seconds that the host may take to end, whatever the patience with what is checked.
_HOST_PATIENCE = 30.0

_HOST = """
import sys
from refimpl.shm import serve
serve(sys.argv[1], started=lambda host: print("started", flush=True))
"""


class ShmFactory(Factory):
    """Domains of one run. With ``in_processes`` all but the first are in processes of their own.

    ``selectable`` ones are woken by eventfds, others by semaphores.

    ``join`` names what makes a domain, as ``module:function``; tests of the suite itself give another.
    """

    can_stop_store = True

    def __init__(
        self,
        *,
        in_processes: bool = False,
        selectable: bool = False,
        patience: float = 30.0,
        join: str = "refimpl.shm.platform:ShmPlatform.join",
    ) -> None:
        self.name = "shm" + "-processes" * in_processes + "-selectable" * selectable
        self.patience = patience
        self.peers_in_one_process = not in_processes
        self._join = join
        # Only where it is asked for: tests of the suite itself join in ways that know no such thing.
        self._selectable = {"selectable": True} if selectable else {}
        self._directory = Path(tempfile.mkdtemp(prefix="refimpl-"))
        self._run = self._directory / "run"
        self._host: subprocess.Popen[str] | None = None

    @property
    def stranger(self) -> int:
        """See :attr:`Factory.stranger`."""
        return 32_000

    @contextmanager
    def peers(self, count: int = 2) -> Iterator[Peers]:
        """See :meth:`Factory.peers`."""
        self._start_host()
        with ExitStack() as stack:
            platforms: list[Platform] = [stack.enter_context(self._enter(0))]
            for _ in range(count - 1):
                if self.peers_in_one_process:
                    platforms.append(stack.enter_context(self._enter(None)))
                else:
                    platforms.append(stack.enter_context(self.spawn()).platform)
            yield Peers(self, platforms)

    def _enter(self, domid: int | None) -> Platform:
        from refimpl.testing.conformance.agent import resolve

        platform: Platform = resolve(self._join)(
            str(self._run), domid=domid, arena_pages=ARENA_PAGES, **self._selectable
        )
        return platform

    def spawn(self, domid: int | None = None) -> Spawned:
        """See :meth:`Factory.spawn`."""
        self._start_host()
        options = {"run_directory": str(self._run), "domid": domid, "arena_pages": ARENA_PAGES, **self._selectable}
        return SpawnedProcess(self._join, options)

    def stop_store(self) -> None:
        """See :meth:`Factory.stop_store`."""
        if self._host is not None:
            self._host.kill()
            self._forget_host()

    def close(self) -> None:
        """See :meth:`Factory.close`."""
        if self._host is not None:
            self._host.terminate()
            self._forget_host()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start_host(self) -> None:
        if self._host is None:
            command = [sys.executable, "-c", _HOST, str(self._run)]
            self._host = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            assert self._host.stdout is not None
            if self._host.stdout.readline() != "started\n":
                raise RuntimeError("the run's host did not start")

    def _forget_host(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            with host:
                host.wait(_HOST_PATIENCE)
