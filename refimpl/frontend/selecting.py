"""Wait for any of several sockets, as select does.

Spec: Commands Ring > Poll: listeners are polled by the backend, connected sockets by looking at their indexes pages.
"""

from __future__ import annotations

from collections.abc import Iterable

from refimpl.errors import Misuse
from refimpl.frontend.socket import Socket
from refimpl.frontend.waiting import Source, deadline_after


def wait_readable(sockets: Iterable[Socket], timeout: float | None = None) -> list[Socket]:
    """Return those whose recv or accept would not wait, as soon as there is one; none after ``timeout`` seconds."""
    return wait_for_any(sockets, (), timeout)[0]


def wait_writable(sockets: Iterable[Socket], timeout: float | None = None) -> list[Socket]:
    """Return those whose send would not wait, or whose connect has ended; none after ``timeout`` seconds."""
    return wait_for_any((), sockets, timeout)[1]


def wait_for_any(
    readers: Iterable[Socket], writers: Iterable[Socket], timeout: float | None = None
) -> tuple[list[Socket], list[Socket]]:
    """Wait until one of ``readers`` is readable or one of ``writers`` is writable; return all that are, of each.

    All sockets must be of one domain. With a ``timeout`` of 0 it only looks.
    """
    readers, writers = list(readers), list(writers)
    ready: tuple[list[Socket], list[Socket]] = [], []

    def look() -> bool:
        ready[0][:] = [socket for socket in readers if socket.is_readable()]  # POLL-2
        ready[1][:] = [socket for socket in writers if socket.is_writable()]
        return bool(ready[0] or ready[1])

    together = [*readers, *writers]
    if not together:
        raise Misuse("no sockets to wait for")
    events = together[0].device.events
    if any(socket.device.events is not events for socket in together):
        raise Misuse("the sockets are of more than one domain")
    sources: dict[int, Source] = {}
    for socket in together:
        if socket.source is not None:
            sources[socket.source.port] = socket.source
    events.wait_until(tuple(sources.values()), look, deadline_after(timeout))
    return ready
