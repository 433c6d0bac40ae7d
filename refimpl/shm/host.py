"""The process of a run that need be no domain: xenstore's server and the hypervisor's stand-in, in one loop."""

from __future__ import annotations

import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import Self

from refimpl.shm.hypervisor import Hypervisor
from refimpl.shm.run_directory import store_path
from refimpl.shm.store import Quotas, StoreServer


class Host:
    """A run: what its processes join. A context manager; :meth:`run` in the thread that made it, or in one other."""

    def __init__(self, run_directory: str | os.PathLike[str], *, quotas: Quotas | None = None) -> None:
        """Begin a run in the directory, which is made if missing and must be this user's alone.

        Raises PlatformUnavailable (no machine for it, or a run lives there), PermissionRefused, Misuse (a long path).
        """
        with ExitStack() as undo:
            self._selector = undo.enter_context(selectors.DefaultSelector())
            self._stop_here, self._stop_there = socket.socketpair()
            undo.callback(self._stop_here.close)
            undo.callback(self._stop_there.close)
            self._stop_there.setblocking(False)
            self._selector.register(self._stop_here, selectors.EVENT_READ)
            store = StoreServer(self._selector) if quotas is None else StoreServer(self._selector, quotas=quotas)
            with ExitStack() as undo_store:
                undo_store.callback(store.close)
                self.hypervisor = Hypervisor(run_directory, self._selector, store)
                undo_store.pop_all()
            undo.callback(self.hypervisor.close)
            undo.callback(store.close)
            self._closing = undo.pop_all()
        #: Where xenstore takes whoever connects for domain 0: for tools and the toolstack.
        self.store_path = store_path(os.path.abspath(run_directory), 0)

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        while True:
            for key, mask in self._selector.select():
                if key.data is None:
                    return
                key.data(mask)

    def stop(self) -> None:
        """End :meth:`run`, now or when it begins. Safe from any thread and from a signal's handler."""
        with suppress(OSError):
            self._stop_there.send(b"\0")

    def close(self) -> None:
        """End the run: who still is in it loses xenstore, and nobody joins it. A second call does nothing."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def serve(
    run_directory: str | os.PathLike[str],
    *,
    started: Callable[[Host], None] | None = None,
    stop_signals: Iterable[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
) -> None:
    """Begin a run, call ``started``, and serve until one of the signals comes; in the main thread.

    Raises what :class:`Host` does.
    """
    with Host(run_directory) as host, ExitStack() as handlers:
        for number in stop_signals:
            former = signal.signal(number, lambda *_: host.stop())
            handlers.callback(signal.signal, number, former)
        if started is not None:
            started(host)
        host.run()
