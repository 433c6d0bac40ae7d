"""Event channels, by ``/dev/xen/evtchn``.

A port that fired is masked by the kernel until its number is written back: :meth:`EventChannels.rearm` is that write.
Ports are bound on a descriptor of their own for each peer, which the kernel restricts to that peer (SEC-B-21): not even
a bug of ours can bind another guest's port there. A restricted descriptor allocates nothing, so one more, unrestricted,
does that for all; and for domain 0, to which the kernel restricts none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import threading
from array import array
from collections.abc import Sequence

from refimpl.errors import DomainClosed, LimitReached, PermissionRefused, PlatformError, PortRefused
from refimpl.xen import ioctls
from refimpl.xen.devices import check_domid, open_device

#: As much as the kernel gives in one read.
_LARGEST_READ = 4096
_LARGEST_PORT = 2**32 - 1
_LIMIT_REMEDY = "close sockets, or raise the guest's max_event_channels in its xl configuration"


class EventChannels:
    """All the event channels of a domain's process. Raises PlatformUnavailable, PermissionRefused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # Guards the two tables, and descriptors against being closed in use.
        self._waiting = threading.Lock()  # Held by the thread in wait().
        self._closed = False
        self._unrestricted = open_device("/dev/xen/evtchn", "xen-evtchn")
        self._restricted: dict[int, int] = {}
        #: Each port's descriptor, and its number as the kernel reads it.
        self._ports: dict[int, tuple[int, bytes]] = {}
        self._ports_of: dict[int, set[int]] = {self._unrestricted: set()}
        #: The one descriptor that has ports, where it is one: then a look needs no epoll to find it.
        self._only: int | None = None
        self._is_woken = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(self._unrestricted, select.EPOLLIN)

    def fileno(self) -> int:
        """Return a descriptor that is readable while an event, or a wake, waits."""
        return self._epoll.fileno()

    def allocate_unbound(self, peer: int) -> int:
        """Allocate a port that ``peer`` alone may bind. Raises LimitReached, PortRefused."""
        check_domid(peer)
        with self._lock:
            self._check_open()
            argument = ioctls.BIND_UNBOUND_PORT_LAYOUT.pack(peer)
            try:
                port = ioctls.request(self._unrestricted, ioctls.EVTCHN_BIND_UNBOUND_PORT, argument)
            except OSError as error:
                raise _refusal(error, 0, "none can be allocated for it", peer) from error
            self._add(self._unrestricted, port)
        return port

    def bind(self, peer: int, peer_port: int) -> int:
        """Bind to the unbound port ``peer_port`` of ``peer``. Raises PortRefused, LimitReached."""
        check_domid(peer)
        if not 0 <= peer_port <= _LARGEST_PORT:
            raise PortRefused(peer_port, "no port number", peer)
        with self._lock:
            self._check_open()
            descriptor = self._restricted.get(peer) or self._open_for(peer)
            argument = ioctls.BIND_INTERDOMAIN_LAYOUT.pack(peer, peer_port)
            try:
                port = ioctls.request(descriptor, ioctls.EVTCHN_BIND_INTERDOMAIN, argument)
            except OSError as error:
                self._close_if_unused(descriptor)
                raise _refusal(error, peer_port, "absent, bound already, or not for us", peer) from error
            self._add(descriptor, port)
        return port

    def notify(self, port: int) -> None:
        """Send an event to the other end. Raises PortRefused."""
        known = self._ports.get(port)
        if known is None:
            self._check_open()
            raise PortRefused(port, "not one of ours")
        try:
            fcntl.ioctl(known[0], ioctls.EVTCHN_NOTIFY, known[1])
        except OSError as error:  # Closed by another thread since.
            raise PortRefused(port, "not one of ours") from error

    def wait(self, timeout: float | None = None) -> Sequence[int]:
        """Wait until events came in; return the ports that fired, each masked until :meth:`rearm`."""
        with self._waiting:
            if timeout == 0 and self._only is not None:
                return self._look()
            self._check_open()
            ready = self._epoll.poll(None if timeout is None else max(timeout, 0))
            with self._lock:
                self._check_open()
                if len(ready) == 1:
                    return self._take_events(ready[0][0])
                return list({port for descriptor, _ in ready for port in self._take_events(descriptor)})

    def _look(self) -> Sequence[int]:
        """Return what fired on the one descriptor that has ports: one system call, but for a wake to take back."""
        with self._lock:
            self._check_open()
            fired = self._take_events(self._only) if self._only is not None else ()
            if self._is_woken and not fired:
                self._take_events(self._wake)
            return fired

    def _take_events(self, descriptor: int) -> Sequence[int]:
        """Read which ports fired, each once: the kernel masks a port before it says so."""
        try:
            if descriptor == self._wake:
                self._is_woken = False
                os.eventfd_read(self._wake)
                return ()
            ours = self._ports_of.get(descriptor, ())
            if not ours:  # Closed since, and its number may already mean another file.
                return ()
            # A port closed since it fired is still in the kernel's list.
            ports = array("I", os.read(descriptor, _LARGEST_READ))
            return [port for port in ports if port in ours]
        except BlockingIOError:
            return ()
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            # The kernel's list is full of ports that fired and were closed: take it as an event of every port.
            ioctls.request(descriptor, ioctls.EVTCHN_RESET)
            return list(ours)

    def rearm(self, port: int) -> None:
        """Let the port fire again. A port closed since is ignored."""
        with self._lock:
            known = self._ports.get(port)
            if known is not None:
                os.write(*known)

    def close_port(self, port: int) -> None:
        """Close an event channel. A port not ours is ignored."""
        with self._lock:
            known = self._ports.pop(port, None)
            if known is not None:
                descriptor, word = known
                self._ports_of[descriptor].remove(port)
                self._find_only()
                ioctls.request(descriptor, ioctls.EVTCHN_UNBIND, word)
                self._close_if_unused(descriptor)

    def wake(self) -> None:
        """Make the wait in progress, or else the next one, return at once."""
        with self._lock:
            if not self._closed:
                self._is_woken = True
                os.eventfd_write(self._wake, 1)

    def leave_behind(self) -> None:
        """Forget every port and start anew: the domain was restored, and Xen knows none of them.

        Nothing is unbound or closed. Linux (6.1) forgets the ports of its own drivers over a restore, and not those of
        programs: to unbind one, or to close the last descriptor that has one, is a BUG in its kernel. So the old
        descriptors stay open, and their ports bound in name, until this process ends.
        """
        with self._lock:
            self._check_open()
            for descriptor in self._ports_of:
                self._epoll.unregister(descriptor)
            self._ports.clear()
            self._restricted.clear()
            self._unrestricted = open_device("/dev/xen/evtchn", "xen-evtchn")
            self._ports_of = {self._unrestricted: set()}
            self._only = None
            self._epoll.register(self._unrestricted, select.EPOLLIN)
            self._is_woken = True
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close every port. A wait in progress ends with DomainClosed. A second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._wake, 1)
        with self._waiting, self._lock:
            self.release_descriptors()

    def release_descriptors(self) -> None:
        """Close the descriptors, and nothing else: all that a forked child may do."""
        self._closed = True
        self._ports.clear()
        self._epoll.close()
        os.close(self._wake)
        for descriptor in self._ports_of:
            os.close(descriptor)
        self._ports_of.clear()

    def _open_for(self, peer: int) -> int:
        if peer == 0:
            return self._unrestricted
        descriptor = open_device("/dev/xen/evtchn", "xen-evtchn")
        ioctls.request(descriptor, ioctls.EVTCHN_RESTRICT_DOMID, ioctls.RESTRICT_DOMID_LAYOUT.pack(peer))  # SEC-B-21
        self._epoll.register(descriptor, select.EPOLLIN)
        self._restricted[peer] = descriptor
        self._ports_of[descriptor] = set()
        return descriptor

    def _add(self, descriptor: int, port: int) -> None:
        self._ports[port] = descriptor, ioctls.PORT_LAYOUT.pack(port)
        self._ports_of[descriptor].add(port)
        self._find_only()

    def _find_only(self) -> None:
        with_ports = [descriptor for descriptor, ports in self._ports_of.items() if ports]
        self._only = with_ports[0] if len(with_ports) == 1 else None

    def _close_if_unused(self, descriptor: int) -> None:
        if descriptor == self._unrestricted or self._ports_of[descriptor]:
            return
        del self._ports_of[descriptor]
        self._restricted = {peer: of for peer, of in self._restricted.items() if of != descriptor}
        self._epoll.unregister(descriptor)
        os.close(descriptor)

    def _check_open(self) -> None:
        if self._closed:
            raise DomainClosed("this domain's event channels are closed")


def _refusal(error: OSError, port: int, reason: str, peer: int) -> PlatformError:
    if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EMFILE):
        return LimitReached("event channels", remedy=_LIMIT_REMEDY)
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionRefused(f"Xen's security policy forbids event channels with domain {peer}")
    return PortRefused(port, reason, peer)
