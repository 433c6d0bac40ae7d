"""A deliberately simple platform: all its domains in one process, one lock, no shared state that could tear.

It is the conformance suite's second opinion: slow and plain, so that what the suite demands can be seen to be possible,
and what a sabotaged variant does wrong to be what the suite finds.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition, RLock

from refimpl.errors import DomainClosed, ForkedDomain, GrantRefused, LimitReached, PortRefused
from refimpl.fence import fences
from refimpl.platform import PAGE_SIZE, GrantedPages, MappedPages, Platform

LIMIT_PAGES, LIMIT_PORTS = 600, 300
_libc_mmap = ctypes.CDLL(None, use_errno=True).mmap
_libc_mmap.restype = ctypes.c_void_p
_libc_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
MAP_FIXED = 0x10


class Machine:
    """The pages, grants and ports of all domains, under one lock."""

    def __init__(self, store_of) -> None:
        self.lock = RLock()
        self.changed = Condition(self.lock)
        self.descriptor = os.memfd_create("simple-platform")
        os.ftruncate(self.descriptor, LIMIT_PAGES * PAGE_SIZE)
        self.free = list(range(LIMIT_PAGES))
        self.users = {}  # frame -> how many grants and maps hold it
        self.grants = {}  # (granter, ref) -> Entry
        self.refs = 0
        self.domains = {}
        self.store_of = store_of

    def join(self, domid):
        with self.lock:
            self.domains[domid] = platform = SimplePlatform(self, domid)
            return platform

    def close(self) -> None:
        os.close(self.descriptor)

    def take_frames(self, count):
        frames = [self.free.pop(0) for _ in range(count)]
        for frame in frames:
            os.pwrite(self.descriptor, bytes(PAGE_SIZE), frame * PAGE_SIZE)
            self.users[frame] = 1
        return frames

    def let_go(self, frames) -> None:
        for frame in frames:
            self.users[frame] -= 1
            if not self.users[frame]:
                self.free.append(frame)

    def view(self, frames, writable):
        """Show the frames contiguously, page by page into one reservation; return (mmap, memoryview)."""
        reservation = mmap.mmap(-1, len(frames) * PAGE_SIZE)
        first = ctypes.c_char.from_buffer(reservation)
        address = ctypes.addressof(first)
        del first
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        for place, frame in enumerate(frames):
            target, offset = address + place * PAGE_SIZE, frame * PAGE_SIZE
            done = _libc_mmap(target, PAGE_SIZE, access, mmap.MAP_SHARED | MAP_FIXED, self.descriptor, offset)
            assert done == target
        memory = memoryview(reservation)
        return reservation, memory if writable else memory.toreadonly()


@dataclass
class Entry:
    peer: int
    frame: int
    writable: bool


class _Pages:
    def _show(self, owner, frames, writable) -> None:
        self._owner, self._frames = owner, frames
        self._mmap, self.memory = owner.machine.view(frames, writable)
        owner.held.append(self)

    def _hide(self) -> None:
        owner = self._owner
        owner.check(closing=True)
        with owner.machine.lock:
            if self in owner.held:
                owner.held.remove(self)
                self.memory.release()
                self._mmap.close()
                self._forget()
                owner.machine.let_go(self._frames)

    def _forget(self) -> None:
        pass


class SimpleGrant(_Pages, GrantedPages):
    def _forget(self) -> None:
        for ref in self.refs:
            del self._owner.machine.grants[self._owner.domid, ref]

    def end(self) -> None:
        self._hide()

    give_back = end


class SimpleMap(_Pages, MappedPages):
    def unmap(self) -> None:
        self._hide()

    give_back = unmap


@dataclass
class Port:
    peer: int
    other: int | None = None
    pending: bool = False
    masked: bool = False


class SimplePlatform(Platform):
    name = "simple"
    default_ring_order = 4

    def __init__(self, machine, domid) -> None:
        self.machine, self.domid = machine, domid
        self.fences = fences()
        self.held, self.ports = [], {}
        self._next_port, self._woken, self._closed = 1, False, False
        self._process = os.getpid()
        self.store = machine.store_of(self)

    def check(self, *, closing=False) -> None:
        if os.getpid() != self._process:
            raise ForkedDomain("forked")
        if self._closed and not closing:
            raise DomainClosed("closed")

    def grant(self, peer: int, page_count: int, *, writable: bool = True) -> GrantedPages:
        self.check()
        with self.machine.lock:
            if page_count > len(self.machine.free):
                raise LimitReached("pages", LIMIT_PAGES)
            grant = SimpleGrant()
            grant.peer = peer
            first, self.machine.refs = self.machine.refs + 8, self.machine.refs + page_count
            grant.refs = tuple(range(first, first + page_count))
            frames = self.machine.take_frames(page_count)
            for ref, frame in zip(grant.refs, frames, strict=True):
                self.machine.grants[self.domid, ref] = Entry(peer, frame, writable)
            grant._show(self, frames, True)
            return grant

    def map(self, peer: int, refs: Sequence[int], *, writable: bool = True) -> MappedPages:
        self.check()
        with self.machine.lock:
            entries = [self.machine.grants.get((peer, ref)) for ref in refs]
            if not all(e and e.peer == self.domid and (e.writable or not writable) for e in entries):
                raise GrantRefused(peer, tuple(refs))
            mapped = SimpleMap()
            mapped.peer = peer
            for entry in entries:
                self.machine.users[entry.frame] += 1
            mapped._show(self, [entry.frame for entry in entries], writable)
            return mapped

    def _add_port(self, port: Port) -> int:
        if len(self.ports) >= LIMIT_PORTS:
            raise LimitReached("event channels", LIMIT_PORTS)
        number, self._next_port = self._next_port, self._next_port + 1
        self.ports[number] = port
        return number

    def allocate_unbound(self, peer: int) -> int:
        self.check()
        with self.machine.lock:
            return self._add_port(Port(peer))

    def bind(self, peer: int, peer_port: int) -> int:
        self.check()
        with self.machine.lock:
            domain = self.machine.domains.get(peer)
            unbound = domain.ports.get(peer_port) if domain else None
            if unbound is None or unbound.peer != self.domid or unbound.other is not None:
                raise PortRefused(peer_port, "absent, bound, or not for us", peer)
            unbound.other = number = self._add_port(Port(peer, peer_port, pending=True))
            self.machine.changed.notify_all()
            return number

    def notify(self, port: int) -> None:
        self.check()
        with self.machine.lock:
            if port not in self.ports:
                raise PortRefused(port, "not ours")
            own = self.ports[port]
            domain = self.machine.domains.get(own.peer)
            other = domain.ports.get(own.other) if domain else None
            if other is not None and other.peer == self.domid and other.other == port:
                self.deliver(other)

    def deliver(self, port: Port) -> None:
        with self.machine.lock:
            port.pending = True
            self.machine.changed.notify_all()

    def _take(self) -> list[int]:
        fired = [number for number, port in self.ports.items() if port.pending and not port.masked]
        for number in fired:
            self.ports[number].pending, self.ports[number].masked = False, True
        return fired

    def wait(self, timeout: float | None = None) -> Sequence[int]:
        self.check()
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.machine.lock:
            while True:
                self.check()
                fired = self._take()
                left = None if deadline is None else deadline - time.monotonic()
                if fired or self._woken or (left is not None and left <= 0):
                    self._woken = False
                    return fired
                self.machine.changed.wait(left)

    def rearm(self, port: int) -> None:
        self.check()
        with self.machine.lock:
            if port in self.ports:
                self.ports[port].masked = False
                self.machine.changed.notify_all()

    def close_port(self, port: int) -> None:
        self.check()
        with self.machine.lock:
            self.ports.pop(port, None)

    def wake(self) -> None:
        self.check()
        with self.machine.lock:
            self._woken = True
            self.machine.changed.notify_all()

    def close(self) -> None:
        self.check(closing=True)
        with self.machine.lock:
            if self._closed:
                return
            self._closed = True
            for pages in list(self.held):
                pages.give_back()
            self.ports.clear()
            self.machine.domains.pop(self.domid, None)
            self.machine.changed.notify_all()
        self.store.close()
