"""Changes that take effect all at once, or not at all.

A transaction keeps the node as it found it the first time it looks at a path, and works on what it kept: what others
change meanwhile is not seen. At the end every kept node must still be the one in the tree; if one is not, somebody
changed what the transaction stands on and it has to be done again (EAGAIN). Missing nodes are kept too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec

from refimpl.errors import StoreError
from refimpl.shm.store.domains import Domain
from refimpl.shm.store.permissions import Permissions
from refimpl.shm.store.quotas import Usage
from refimpl.shm.store.tree import Node, Tree
from refimpl.shm.store.view import View
from refimpl.store.wire import ErrorName

_Parameters = ParamSpec("_Parameters")


class _Kept:
    """A path that the transaction looked at: the node it found there, and the node it left."""

    __slots__ = ("announced", "exact", "found", "node")

    def __init__(self, found: Node | None) -> None:
        self.found = found
        self.node = found
        #: Whether watches are to hear of it, and whether only those on the very path.
        self.announced = False
        self.exact = True

    @property
    def is_changed(self) -> bool:
        return self.node is not self.found


#: What a commit calls for each node that watches are to hear of: its path, the node as it was found, the node as it is
#: now, and whether only watches on the very path are meant.
Announce = Callable[[bytes, Node | None, Node | None, bool], None]


class Transaction(View):
    """One transaction of one client. Raises StoreError ENOSPC if its domain has too many."""

    def __init__(self, domain: Domain, tree: Tree) -> None:
        super().__init__(domain, tree)
        domain.usage.admit_transaction()
        domain.usage.transactions += 1
        self._kept: dict[bytes, _Kept] = {}
        self._memory_bytes = 0
        self._has_created = False
        self._has_failed = False

    def get(self, path: bytes) -> Node | None:
        """Return the node as the transaction knows it, whoever asks, or None."""
        return self._keep(path).node

    def put(self, writes: Sequence[tuple[bytes, Node]]) -> None:
        """Create or replace the nodes, in the transaction alone."""
        growth_bytes = sum(node.size - self._own_bytes(path) for path, node in writes)
        self._or_fail(self.domain.usage.admit_memory, growth_bytes)
        for path, node in writes:
            self._leave(path, node)

    def remove(self, path: bytes) -> None:
        """Take one node out, in the transaction alone."""
        self._leave(path, None)

    def admit_new_nodes(self, count: int) -> None:
        """Let the domain create nodes; how many, the commit will see."""
        self._has_created = True
        self.domain.usage.admit_nodes(1)

    def changed(
        self, path: bytes, node: Node, old_permissions: Permissions | None = None, *, exact: bool = False
    ) -> None:
        """Remember what watches are to hear of at the commit."""
        kept = self._keep(path)
        kept.announced = True
        kept.exact = exact and kept.exact

    def commit(self, usage_of: Callable[[int], Usage], announce: Announce) -> None:
        """Let all changes take effect, then announce them in the order their paths were first looked at.

        Raises StoreError: EAGAIN if what it stands on has changed, ENOSPC if an owner would have too many nodes, ENOMEM
        if a quota refused one of its requests half-way.
        """
        if self._has_failed:
            raise StoreError(ErrorName.ENOMEM)
        if self._has_created:
            self._admit_nodes(usage_of)
        if any(self.tree.get(path) is not kept.found for path, kept in self._kept.items()):
            raise StoreError(ErrorName.EAGAIN)
        for path, kept in self._kept.items():
            if kept.is_changed:
                self.tree.remove(path) if kept.node is None else self.tree.put(path, kept.node)
        for path, kept in self._kept.items():
            if kept.announced:
                announce(path, kept.found, kept.node, kept.exact)

    def close(self) -> None:
        """Give back what the transaction used; it is over, committed or not."""
        self.domain.usage.transactions -= 1
        self.domain.usage.memory_bytes -= self._memory_bytes

    def _keep(self, path: bytes) -> _Kept:
        kept = self._kept.get(path)
        if kept is None:
            self._or_fail(self.domain.usage.admit_transaction_node, len(self._kept))
            kept = self._kept[path] = _Kept(self.tree.get(path))
        return kept

    def _leave(self, path: bytes, node: Node | None) -> None:
        kept = self._keep(path)
        growth_bytes = (node.size if node else 0) - self._own_bytes(path)
        self.domain.usage.memory_bytes += growth_bytes
        self._memory_bytes += growth_bytes
        kept.node = node

    def _own_bytes(self, path: bytes) -> int:
        kept = self._keep(path)
        return kept.node.size if kept.node is not None and kept.is_changed else 0

    def _put_within_size(self, writes: Sequence[tuple[bytes, Node]]) -> None:
        self._or_fail(super()._put_within_size, writes)

    def _or_fail(
        self, action: Callable[_Parameters, None], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> None:
        """Do what a quota may refuse; a refusal leaves a request half done, so that nothing is ever committed."""
        try:
            action(*args, **kwargs)
        except StoreError:
            self._has_failed = True
            raise

    def _admit_nodes(self, usage_of: Callable[[int], Usage]) -> None:
        growth: dict[int, int] = {}
        for kept in self._kept.values():
            if not kept.is_changed:
                continue
            if kept.node is not None:
                growth[kept.node.owner] = growth.get(kept.node.owner, 0) + 1
            if kept.found is not None:
                growth[kept.found.owner] = growth.get(kept.found.owner, 0) - 1
        for owner, count in growth.items():
            # One more than it brings: C xenstored lets a transaction come near the limit, not reach it.
            if count:
                usage_of(owner).admit_nodes(count + 1)
