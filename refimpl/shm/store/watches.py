"""Who wants to hear of changes where.

An event goes to the watches on the changed path and on all paths above it; an *exact* one only to those on the very
path. A removal fires exactly for each node below the one removed, so that a watch hears of it once, under its own path.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from refimpl.store.wire import is_special_path, parent_path

if TYPE_CHECKING:
    from refimpl.shm.store.session import Session


class Watch:
    """One client's watch on one absolute or special path."""

    __slots__ = ("_prefix_length", "order", "path", "session", "token")

    def __init__(self, session: Session, path: bytes, token: bytes, order: int, *, relative: bool) -> None:
        self.session = session
        self.path = path
        self.token = token
        #: Watches of one client fire in the order they were set.
        self.order = order
        # The events of a relative watch are relative too.
        self._prefix_length = len(session.domain.path) + 1 if relative else 0

    @property
    def size(self) -> int:
        """The bytes that quotas count for it."""
        return len(self.path) + len(self.token)

    def shown(self, path: bytes) -> bytes:
        """Return the path as an event of this watch names it."""
        return path[self._prefix_length :]


class Watches:
    """All watches of all clients, by path."""

    def __init__(self) -> None:
        self._by_path: dict[bytes, dict[tuple[Session, bytes], Watch]] = {}
        self._order = itertools.count()

    def add(self, session: Session, path: bytes, token: bytes, *, relative: bool) -> Watch:
        """Set a watch, which the client must not have already."""
        watch = Watch(session, path, token, next(self._order), relative=relative)
        self._by_path.setdefault(path, {})[session, token] = watch
        return watch

    def find(self, session: Session, path: bytes, token: bytes) -> Watch | None:
        """Return the client's watch, or None if it has no such."""
        return self._by_path.get(path, {}).get((session, token))

    def remove(self, watch: Watch) -> None:
        """End a watch."""
        here = self._by_path[watch.path]
        del here[watch.session, watch.token]
        if not here:
            del self._by_path[watch.path]

    def matching(self, path: bytes, *, exact: bool) -> list[Watch]:
        """Return the watches that hear of a change at ``path``, in the order they were set."""
        found = list(self._at(path))
        if not exact and not is_special_path(path):
            while path != b"/":
                path = parent_path(path)
                found.extend(self._at(path))
            found.sort(key=lambda watch: watch.order)
        return found

    def _at(self, path: bytes) -> Iterable[Watch]:
        here = self._by_path.get(path)
        return here.values() if here else ()
