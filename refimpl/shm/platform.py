"""The platform between processes of one machine: POSIX shared memory, POSIX semaphores and a local xenstore.

A domain is one process with its threads. All processes are one user's: the platform models failure and death, not
confidentiality.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from refimpl.errors import RefimplError
from refimpl.fence import fences
from refimpl.platform import GrantedPages, MappedPages, Platform
from refimpl.shm.domain import Domain
from refimpl.shm.event_channels import EventChannels
from refimpl.shm.grants import Granter
from refimpl.shm.lifetime import Lifetime
from refimpl.shm.maps import Mapper
from refimpl.shm.peers import Peers
from refimpl.shm.segments import LARGEST_ARENA


class ShmPlatform(Platform):
    """One process's domain. Get one with :meth:`join`.

    A signal's handler that raises while this process is in :meth:`wait` is not heard, unless it raises
    KeyboardInterrupt: let it set a flag, and call :meth:`wake` if it likes; the wait ends.
    """

    name = "shm"
    default_ring_order = 9

    def __init__(self, domain: Domain) -> None:
        """Live in the domain; what :meth:`join` does besides is the connection to xenstore."""
        self.domid = domain.domid
        self.fences = fences()
        self._domain = domain
        self._lifetime = Lifetime()
        self._peers = Peers(domain.control, domain.lives)
        self._granter = Granter(
            self._lifetime, domain.incarnation, domain.arena, domain.tables, self._peers, self.fences
        )
        self._mapper = Mapper(
            self._lifetime, domain.domid, domain.tables, domain.tables_descriptor, self._peers, self.fences
        )
        self._channels = EventChannels(
            domain.domid,
            domain.incarnation,
            domain.arena.mapping,
            domain.tables,
            self._peers,
            domain.wake_up,
            self.fences,
        )

    @classmethod
    def join(
        cls,
        run_directory: str | os.PathLike[str],
        *,
        domid: int | None = None,
        selectable: bool = False,
        arena_pages: int = LARGEST_ARENA,
        store_timeout: float = 10.0,
    ) -> Self:
        """Become a domain of the run that lives in the directory: ``domid``, or the next that is free.

        ``selectable`` domains are woken by an eventfd, which :meth:`fileno` gives, others by a POSIX semaphore.
        ``arena_pages`` limits what can be granted at once; they cost memory only while they are granted.

        Raises PlatformUnavailable (no run there, or no machine for it), PermissionRefused (the domid is somebody's),
        LimitReached (/dev/shm is full), StoreLost, Misuse.
        """
        from refimpl.store.client import StoreClient

        domain = Domain(run_directory, domid, arena_pages, selectable=selectable)
        try:
            platform = cls(domain)
            platform.store = StoreClient.connect(domain.store_path, timeout=store_timeout)
        except BaseException:
            domain.leave()
            raise
        return platform

    def grant(self, peer: int, page_count: int, *, writable: bool = True) -> GrantedPages:
        """See :meth:`Platform.grant`. The pages lie together unless the arena is in pieces; then they only look so."""
        self._lifetime.check()
        return self._granter.grant(peer, page_count, writable=writable)

    def map(self, peer: int, refs: Sequence[int], *, writable: bool = True) -> MappedPages:
        """See :meth:`Platform.map`."""
        self._lifetime.check()
        return self._mapper.map(peer, refs, writable=writable)

    def allocate_unbound(self, peer: int) -> int:
        """See :meth:`Platform.allocate_unbound`."""
        self._lifetime.check()
        return self._channels.allocate_unbound(peer)

    def bind(self, peer: int, peer_port: int) -> int:
        """See :meth:`Platform.bind`."""
        self._lifetime.check()
        return self._channels.bind(peer, peer_port)

    def notify(self, port: int) -> None:
        """See :meth:`Platform.notify`."""
        if self._lifetime.over is not None:
            self._lifetime.refuse()
        self._channels.notify(port)

    def wait(self, timeout: float | None = None) -> Sequence[int]:
        """See :meth:`Platform.wait`. Raises Misuse where another thread waits, DomainClosed if closed meanwhile."""
        if self._lifetime.over is not None:
            self._lifetime.refuse()
        ports = self._channels.wait(timeout)
        if self._lifetime.over is not None:
            self._lifetime.refuse()
        return ports

    def fileno(self) -> int | None:
        """See :meth:`Platform.fileno`."""
        self._lifetime.check()
        return self._domain.wake_up.fileno()

    def rearm(self, port: int) -> None:
        """See :meth:`Platform.rearm`."""
        if self._lifetime.lasts():
            self._channels.rearm(port)

    def close_port(self, port: int) -> None:
        """See :meth:`Platform.close_port`."""
        if self._lifetime.lasts():
            self._channels.close_port(port)

    def wake(self) -> None:
        """See :meth:`Platform.wake`."""
        if self._lifetime.lasts():
            self._channels.wake()

    def close(self) -> None:
        """See :meth:`Platform.close`. Views of granted and mapped pages stay readable, and mean nothing any more."""
        if not self._lifetime.lasts():
            return
        self._lifetime.end()
        self._channels.stop()
        self._granter.stop()
        self._mapper.stop()
        with suppress(RefimplError):
            self.store.close()
        self._domain.leave()
        self._peers.forget()
