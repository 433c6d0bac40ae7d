"""What a domain can do: the backend-agnostic layer under the protocol, interfaces only.

``refimpl.shm`` implements it between processes, ``refimpl.xen`` between domains; ``refimpl.testing`` has the checks
that any implementation must pass. The word *port* here is an event channel's number and nothing else; *peer* is the
other domain's domid.

Rules that hold on both:

- a grant of one's own pages can be ended at any time. Ending succeeds at once, also while the peer still maps them;
  such pages are not reused until the peer lets go. A new map of an ended grant is refused, except that it is
  unspecified while the peer still has an old one.
- a refused map says only that: bad, foreign, ended and read-only refs are one :class:`~refimpl.errors.GrantRefused`.
- the first event after a bind may come with nothing sent; an event may be spurious, several may be merged into one,
  none is ever lost. A notification to a closed port goes nowhere, without an error.
- a peer's death is not visible in an event channel: ask xenstore (``@releaseDomain``, ``Store.is_introduced``).
- an event orders memory: what was stored before :meth:`Platform.notify` is seen after the wait that it ends.
- every method is safe to call from any thread, except that at most one thread is in :meth:`Platform.wait`.
- after a fork the child owns nothing: every call in it raises :class:`~refimpl.errors.ForkedDomain`.

Spec: Xenstore; Commands Ring; Indexes Page and Data ring (what they all stand on).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

PAGE_SHIFT = 12
#: Bytes in a granted page, whatever the machine's own page size (erratum E-PAGESIZE).
PAGE_SIZE = 1 << PAGE_SHIFT

Result = TypeVar("Result")


class Fences(NamedTuple):
    """Memory barriers: ``full`` is the document's general barrier (mb), ``read`` rmb, ``write`` wmb."""

    full: Callable[[], None]
    read: Callable[[], None]
    write: Callable[[], None]


class GrantedPages(ABC):
    """Pages of ours that a peer may map, from :meth:`Platform.grant`.

    ``memory`` is one writable view of ``len(refs) * PAGE_SIZE`` bytes, format ``"B"``, zeroed when granted; page
    ``i`` of it has ``refs[i]``. Release every view taken of it (slices, casts, arrays) before :meth:`end`.
    """

    peer: int
    refs: tuple[int, ...]
    memory: memoryview

    @abstractmethod
    def end(self) -> None:
        """End the grants and give the pages back; a second call does nothing.

        Never waits for the peer: pages it still maps are kept aside, unused, until it lets go.
        """

    def leave_notice(self, *, clear_byte: int | None = None, send_event: int | None = None) -> bool:
        """Have the peer told when these pages are given back or this process dies; say whether that can be done.

        The byte at offset ``clear_byte`` is then set to 0 and an event sent on our port ``send_event``. On a platform
        where a process is a domain there is no need: xenstore tells of its death.
        """
        return False


class MappedPages(ABC):
    """A peer's pages mapped here, contiguously and in the order of the refs, from :meth:`Platform.map`.

    ``memory`` is one view of ``page_count * PAGE_SIZE`` bytes, format ``"B"``, read-only if mapped so. Its content
    may change at any moment. Release every view taken of it before :meth:`unmap`.
    """

    peer: int
    memory: memoryview

    @abstractmethod
    def unmap(self) -> None:
        """Unmap the pages; a second call does nothing."""


class StoreView(ABC):
    """Reads and writes of xenstore nodes: on their own, or inside a transaction.

    Paths are text, absolute (``/local/domain/1/...``) or relative to the caller's own ``/local/domain/<domid>``.
    Values are bytes, as stored. Raises :class:`~refimpl.errors.StoreError` and its subclasses.
    """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the node's value. Raises StoreNoEntry, StoreAccessRefused."""

    @abstractmethod
    def write(self, path: str, value: bytes) -> None:
        """Set the node's value, creating it and its parents where missing."""

    @abstractmethod
    def make_directory(self, path: str) -> None:
        """Create the node with an empty value; an existing one is left as it is."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove the node and everything below it. Missing is no error, but a missing parent is StoreNoEntry."""

    @abstractmethod
    def get_permissions(self, path: str) -> list[str]:
        """Return e.g. ``["n1", "r0"]``: the owner with what others may do, then exceptions (n, r, w, b + domid)."""

    @abstractmethod
    def set_permissions(self, path: str, permissions: Sequence[str]) -> None:
        """Set the node's permissions, in the form :meth:`get_permissions` returns."""

    @abstractmethod
    def list(self, path: str) -> list[str]:
        """Return the names of the node's children."""

    def read_or_none(self, path: str) -> bytes | None:
        """Return the node's value, or None where there is no such node."""
        from refimpl.errors import StoreNoEntry

        try:
            return self.read(path)
        except StoreNoEntry:
            return None


class Watch(ABC):
    """A registered watch, from :meth:`Store.watch`."""

    path: str

    @abstractmethod
    def cancel(self) -> None:
        """Stop the watch: once this returns its callback is not called again. A second call does nothing.

        Also allowed from within the callback.
        """


class Store(StoreView):
    """A connection to xenstore that never hangs: each call ends in time, or raises StoreLost."""

    @abstractmethod
    def transact(self, action: Callable[[StoreView], Result]) -> Result:
        """Run ``action`` with a transaction's view and commit; on a conflict do it all again, boundedly often.

        An exception from ``action`` aborts the transaction and comes out. Raises StoreConflict when retries run out.
        """

    @abstractmethod
    def watch(self, path: str, callback: Callable[[str], None]) -> Watch:
        """Call ``callback(changed_path)`` once now and on each change at or below ``path``.

        Events may be merged and may be spurious: re-read, then compare. The callback runs in the store's own thread:
        it must not block and must not call the store; let it set a flag and wake the thread that will.
        ``@introduceDomain`` and ``@releaseDomain`` are paths too, for a privileged caller.
        """

    @abstractmethod
    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` once, from the store's thread, when the connection is lost (at once if it already is)."""

    @abstractmethod
    def is_introduced(self, domid: int) -> bool:
        """Say whether xenstore knows the domain: it is there and has not died.

        Raises StoreAccessRefused for an unprivileged caller, who is told of no other domain.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection; its watches end. A second call does nothing."""


class Platform(ABC):
    """One domain's hold on the memory layer. Use it as a context manager, or call :meth:`close`."""

    #: ``"shm"`` or ``"xen"``.
    name: str
    #: Our own domid.
    domid: int
    #: Our connection to xenstore.
    store: Store
    #: Memory barriers between this domain and those that map its pages.
    fences: Fences
    #: The ring order a frontend asks for when it is not told one.
    default_ring_order: int
    #: Whether a frontend asks by POLL before each ACCEPT when it is not told: where a backend may be a kernel's that
    #: does not survive RELEASE of a listener with an ACCEPT outstanding (E-ACC-REL).
    default_poll_first: bool = False

    @abstractmethod
    def grant(self, peer: int, page_count: int, *, writable: bool = True) -> GrantedPages:
        """Grant ``page_count`` zeroed pages of ours to ``peer``. Raises LimitReached with nothing granted."""

    @abstractmethod
    def map(self, peer: int, refs: Sequence[int], *, writable: bool = True) -> MappedPages:
        """Map the peer's grants contiguously, in the order of ``refs``: all of them or none.

        Raises GrantRefused, LimitReached.
        """

    @abstractmethod
    def allocate_unbound(self, peer: int) -> int:
        """Allocate an event channel that ``peer`` alone may bind; return our port. Raises LimitReached."""

    @abstractmethod
    def bind(self, peer: int, peer_port: int) -> int:
        """Bind to an unbound port that ``peer`` allocated for us; return our own port.

        Raises PortRefused (absent, bound already, meant for another domain), LimitReached.
        """

    @abstractmethod
    def notify(self, port: int) -> None:
        """Send an event to the other end, closed or not. Raises PortRefused if the port is not ours."""

    @abstractmethod
    def wait(self, timeout: float | None = None) -> Sequence[int]:
        """Wait until events came in and return the ports that fired, each once; empty after ``timeout`` seconds.

        A port returned is *masked*: it does not fire again until :meth:`rearm`; what comes meanwhile is merged and
        delivered after it. Do the work, then rearm. May return empty early (:meth:`wake`, a signal's handler ran).
        ``timeout=0`` polls. One thread at a time.
        """

    @abstractmethod
    def rearm(self, port: int) -> None:
        """Let the port fire again, after the work its event asked for. A port closed since is ignored."""

    @abstractmethod
    def close_port(self, port: int) -> None:
        """Close an event channel; a late event for it is dropped. A port not ours is ignored."""

    @abstractmethod
    def wake(self) -> None:
        """Make the :meth:`wait` in progress, or else the next one, return at once; from any thread or callback."""

    def hold_frontend(self, device_id: int = 0) -> Callable[[], None]:
        """Take this domain's own PV Calls device for this process; return what lets it go.

        Where a domain is a process there is nothing to do. Raises DeviceInUse, naming who has it, until that one
        releases it, closes its platform or dies; PlatformUnavailable where a kernel's driver has it.
        """
        return _nothing_to_release

    def hold_backend(self) -> Callable[[], None]:
        """Take the backend's part of this domain for this process, as :meth:`hold_frontend` takes a device."""
        return _nothing_to_release

    def catch_up(self) -> bool:
        """Learn whether this domain was saved and restored since the platform was opened; return whether it was.

        Its event channels are dead then, and forgotten; what it granted and mapped is dead too, and still to be given
        back; :attr:`domid` may be another one. Where a domain is a process it is never saved.
        """
        return False

    def fileno(self) -> int | None:
        """Return a descriptor that is readable while ``wait(0)`` has something, None where there is no such."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Give everything back: grants, maps, event channels, the xenstore connection. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _nothing_to_release() -> None:
    """Release what was not taken."""
