"""The Xen domain this process runs in: its grants, maps, event channels and xenstore.

One and the same in dom0 and in a guest: everything goes through device nodes of Linux, xenstore through
``/dev/xen/xenbus``, on which paths may be relative to the domain's own directory.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Self

from refimpl.errors import (
    DomainClosed,
    ForkedDomain,
    PlatformUnavailable,
    StoreError,
)
from refimpl.fence import fences
from refimpl.platform import Platform, Store
from refimpl.store.client import StoreClient
from refimpl.xen import kernel_drivers
from refimpl.xen.device_lock import DeviceLock
from refimpl.xen.devices import check_device
from refimpl.xen.event_channels import EventChannels
from refimpl.xen.gntalloc import GrantAllocator, XenGrantedPages
from refimpl.xen.gntdev import GrantMapper, XenMappedPages

_XENBUS = "/dev/xen/xenbus"


class Life(NamedTuple):
    """What xenstore says of this domain that is another after it was saved and restored, here or on another host."""

    domid: int
    #: The page through which it talks to xenstore; dom0 has none that is told.
    store_page: bytes | None


class XenPlatform(Platform):
    """The platform on real grants, event channels and xenstore; make one with :meth:`open`.

    Ring order 4 is the default because 60 such sockets fit what Linux lets a domain grant (1024 pages); POLL before
    ACCEPT, because the backend may be Linux's.
    """

    name = "xen"
    default_ring_order = 4
    default_poll_first = True

    def __init__(
        self,
        life: Life,
        store: StoreClient,
        allocator: GrantAllocator,
        mapper: GrantMapper,
        channels: EventChannels,
    ) -> None:
        self.domid = life.domid
        self._life = life
        self.store = store
        self.fences = fences()
        self._allocator = allocator
        self._mapper = mapper
        self._channels = channels
        self._locks: list[DeviceLock] = []
        #: Not after :meth:`close`, nor in a forked child, whatever process that is: to ask which costs a system call.
        self._is_usable = True
        self._is_in_child = False
        _platforms.add(self)

    @classmethod
    def open(cls) -> Self:
        """Open the devices and xenstore of this domain.

        Raises PlatformUnavailable, PermissionRefused, both with the command that mends it, and StoreLost.
        """
        with ExitStack() as opened:
            allocator = GrantAllocator()
            opened.callback(allocator.close)
            mapper = GrantMapper()
            opened.callback(mapper.close)
            channels = EventChannels()
            opened.callback(channels.close)
            store = _open_store()
            opened.callback(store.close)
            platform = cls(_own_life(store), store, allocator, mapper, channels)
            opened.pop_all()
        return platform

    def grant(self, peer: int, page_count: int, *, writable: bool = True) -> XenGrantedPages:
        """See :meth:`Platform.grant`."""
        self._check()
        return self._allocator.grant(peer, page_count, writable=writable)

    def map(self, peer: int, refs: Sequence[int], *, writable: bool = True) -> XenMappedPages:
        """See :meth:`Platform.map`."""
        self._check()
        return self._mapper.map(peer, refs, writable=writable)

    def allocate_unbound(self, peer: int) -> int:
        """See :meth:`Platform.allocate_unbound`. Also raises PortRefused where there is no such domain."""
        self._check()
        return self._channels.allocate_unbound(peer)

    def bind(self, peer: int, peer_port: int) -> int:
        """See :meth:`Platform.bind`."""
        self._check()
        return self._channels.bind(peer, peer_port)

    def notify(self, port: int) -> None:
        """See :meth:`Platform.notify`."""
        self._check()
        self._channels.notify(port)

    def wait(self, timeout: float | None = None) -> Sequence[int]:
        """See :meth:`Platform.wait`."""
        self._check()
        return self._channels.wait(timeout)

    def rearm(self, port: int) -> None:
        """See :meth:`Platform.rearm`."""
        self._check()
        self._channels.rearm(port)

    def close_port(self, port: int) -> None:
        """See :meth:`Platform.close_port`."""
        self._check()
        self._channels.close_port(port)

    def wake(self) -> None:
        """See :meth:`Platform.wake`."""
        self._check()
        self._channels.wake()

    def catch_up(self) -> bool:
        """See :meth:`Platform.catch_up`."""
        self._check()
        life = _own_life(self.store)
        if life == self._life:
            return False
        self._channels.leave_behind()
        self._life, self.domid = life, life.domid
        return True

    def fileno(self) -> int:
        """See :meth:`Platform.fileno`."""
        self._check()
        return self._channels.fileno()

    def hold_frontend(self, device_id: int = 0) -> Callable[[], None]:
        """See :meth:`Platform.hold_frontend`."""
        self._check()
        kernel_drivers.check_frontend()
        return self._hold(f"pvcalls-frontend-{device_id}")

    def hold_backend(self) -> Callable[[], None]:
        """See :meth:`Platform.hold_backend`."""
        self._check()
        kernel_drivers.check_backend()
        return self._hold("pvcalls-backend")

    def _hold(self, name: str) -> Callable[[], None]:
        lock = DeviceLock(name)
        self._locks.append(lock)
        return lock.release

    def close(self) -> None:
        """See :meth:`Platform.close`. Pages that somebody still looks at go when the last view of them does."""
        if self._is_in_child:
            self._check()
        if not self._is_usable:
            return
        self._is_usable = False
        _platforms.discard(self)
        self._channels.close()
        self._mapper.close()
        self._allocator.close()
        self.store.close()
        for lock in self._locks:
            lock.release()

    def _check(self) -> None:
        if self._is_usable:
            return
        if self._is_in_child:
            raise ForkedDomain("this domain belongs to the process that forked")
        raise DomainClosed("this domain's platform was closed")

    def _release_in_child(self) -> None:
        # No ioctl and no munmap: what they would end is the parent's. A grant, a map or a port lives as long as any
        # process has its descriptor, so a child that kept them would outlive its parent's death in the peer's eyes.
        self._is_usable, self._is_in_child = False, True
        self._channels.release_descriptors()
        os.close(self._allocator.descriptor)
        os.close(self._mapper.descriptor)
        for lock in self._locks:
            lock.release()


_platforms: weakref.WeakSet[XenPlatform] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for platform in list(_platforms):
        platform._release_in_child()
    _platforms.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _open_store() -> StoreClient:
    check_device(_XENBUS, "xenbus_dev_frontend")
    return StoreClient.connect_device(_XENBUS)


def _own_life(store: Store) -> Life:
    """Read the nodes that the toolstack writes into every domain's own directory, the domid into dom0's too."""
    try:
        return Life(int(store.read("domid")), store.read_or_none("store/ring-ref"))
    except (StoreError, ValueError) as error:
        raise PlatformUnavailable(
            f"xenstore does not say which domain this is (node domid: {error}); in dom0: sudo systemctl restart xen"
        ) from error
