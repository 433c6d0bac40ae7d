"""A real frontend and a real backend in one process, connected, for tests of whatever stands on them.

::

    with shm_pair() as pair, pair.frontend.create_connection(server.getsockname()) as socket:
        socket.sendall(b"over granted pages, event channels and xenstore, with no second process")

:class:`Pair` connects them over any platforms; :func:`shm_pair` makes a run of the shm platform around it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from refimpl.backend import Backend, Policy, Settings
from refimpl.frontend import Frontend
from refimpl.platform import Platform
from refimpl.toolstack import Device, attach, introduce_domain_nodes

#: Seconds after which what should have happened is called lost.
PATIENCE = 30.0
#: 16 MiB: seven sockets of order 9, or two hundred of order 4.
ARENA_PAGES = 4096


class Pair:
    """A backend in one domain, serving in a thread, and a connected frontend in each of some others.

    The toolstack's part is done from the backend's domain, which must be privileged. Without ``settings`` the backend
    allows every address. A context manager: entering connects, leaving closes the frontends and stops the backend; the
    platforms stay their owner's.
    """

    def __init__(
        self, backend_platform: Platform, *guests: Platform, settings: Settings | None = None, **options: Any
    ) -> None:
        """``options`` are :meth:`Frontend.open`'s, for every guest."""
        self.backend_platform = backend_platform
        self.guests: list[Platform] = []
        self.frontends: list[Frontend] = []
        self.devices: list[Device] = []
        self._waiting = guests
        self._settings = settings or Settings(policy=Policy(allow_everything=True))
        self._options = {"timeout": PATIENCE, **options}
        self.backend = Backend(backend_platform, self._settings)

    @property
    def frontend(self) -> Frontend:
        """The first guest's frontend."""
        return self.frontends[0]

    def add_guest(self, platform: Platform, **options: Any) -> Frontend:
        """Give the domain a device, open it and return its frontend."""
        store = self.backend_platform.store
        introduce_domain_nodes(store, platform.domid)
        self.guests.append(platform)
        self.devices.append(attach(store, platform.domid, self.backend_platform.domid))
        self.frontends.append(Frontend.open(platform, **{**self._options, **options}))
        return self.frontends[-1]

    def restart_backend(self) -> Backend:
        """Stop the backend and start another in its place; the frontends' devices are gone until they are reopened."""
        self.backend.stop()
        self.backend = Backend(self.backend_platform, self._settings)
        self.backend.start()
        return self.backend

    def reopen(self, guest: int = 0) -> Frontend:
        """Close a guest's frontend and open its device again."""
        self.frontends[guest].close(0)
        self.frontends[guest] = Frontend.open(self.guests[guest], **self._options)
        return self.frontends[guest]

    def close(self) -> None:
        """Close the frontends and stop the backend. A second call does nothing."""
        with ExitStack() as closing:
            closing.callback(self.backend.stop)
            for frontend in self.frontends:
                closing.callback(frontend.close)

    def __enter__(self) -> Self:
        introduce_domain_nodes(self.backend_platform.store, self.backend_platform.domid)
        self.backend.start()
        try:
            for platform in self._waiting:
                self.add_guest(platform)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextmanager
def shm_run() -> Iterator[str]:
    """Host a run of the shm platform in a thread; give the run directory, to join it from here or elsewhere."""
    from refimpl.testing.running_host import running_host

    with tempfile.TemporaryDirectory(prefix="refimpl-") as folder, running_host(f"{folder}/run"):
        yield f"{folder}/run"


@contextmanager
def shm_domains() -> Iterator[tuple[Platform, Platform]]:
    """Make a run, its domain 0, and a guest with a device, neither of whose ends is there."""
    from refimpl.shm import ShmPlatform

    with (
        shm_run() as run,
        ShmPlatform.join(run, domid=0, selectable=True, arena_pages=ARENA_PAGES) as host,
        ShmPlatform.join(run, arena_pages=ARENA_PAGES) as guest,
    ):
        for platform in (host, guest):
            introduce_domain_nodes(host.store, platform.domid)
        attach(host.store, guest.domid)
        yield host, guest


@contextmanager
def shm_pair(guests: int = 1, *, settings: Settings | None = None, **options: Any) -> Iterator[Pair]:
    """Make a run, its domain 0 with a backend, and ``guests`` domains with a frontend each; see :class:`Pair`."""
    from refimpl.shm import ShmPlatform

    with shm_run() as run, ExitStack() as stack:
        platforms = [
            stack.enter_context(ShmPlatform.join(run, domid=domid, selectable=domid == 0, arena_pages=ARENA_PAGES))
            for domid in (0, *[None] * guests)
        ]
        yield stack.enter_context(Pair(platforms[0], *platforms[1:], settings=settings, **options))
