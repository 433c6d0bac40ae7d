"""What one domain can do with the tree: directly here, or inside a transaction (:mod:`.transactions`).

Both are a :class:`View`: the rules (permissions, creation of parents, removal of a whole tree, quotas) stand here once.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from refimpl.errors import StoreError
from refimpl.shm.store import permissions as rights
from refimpl.shm.store.permissions import Permissions
from refimpl.shm.store.tree import Node, Tree
from refimpl.store.wire import ErrorName, child_path, is_node_path, parent_path

if TYPE_CHECKING:
    from refimpl.shm.store.database import Database
    from refimpl.shm.store.domains import Domain
    from refimpl.shm.store.outbox import Outstanding

_OF_A_DOMAIN = re.compile(rb"/local/domain/[0-9]{1,5}/")


class View(ABC):
    """The tree as one domain sees and changes it. Every method raises StoreError with the client's answer."""

    def __init__(self, domain: Domain, tree: Tree) -> None:
        self.domain = domain
        self.tree = tree

    @abstractmethod
    def get(self, path: bytes) -> Node | None:
        """Return the node, whoever asks, or None."""

    @abstractmethod
    def put(self, writes: Sequence[tuple[bytes, Node]]) -> None:
        """Create or replace the nodes, all of them or none. Raises StoreError ENOMEM."""

    @abstractmethod
    def remove(self, path: bytes) -> None:
        """Take one node out."""

    @abstractmethod
    def admit_new_nodes(self, count: int) -> None:
        """Let the domain create so many. Raises StoreError ENOSPC."""

    @abstractmethod
    def changed(
        self, path: bytes, node: Node, old_permissions: Permissions | None = None, *, exact: bool = False
    ) -> None:
        """Let watches hear that the node was created, changed or removed."""

    def is_legal(self, path: bytes) -> bool:
        """Whether a node can have this absolute path."""
        limit = self.domain.usage.quotas.path_bytes
        if len(path) > limit:
            own = _OF_A_DOMAIN.match(path)
            if len(path) > limit + (own.end() if own else 0):
                return False
        return is_node_path(path)

    def lookup(self, path: bytes, access: int) -> Node | None:
        """Return the node if the domain has all of ``access`` to it, None if it is missing.

        A domain that has no such access to the parent is not told which of the two it is: EACCES.
        """
        if not self.is_legal(path):
            raise StoreError(ErrorName.EINVAL)
        node = self.get(path)
        if node is not None and self._access(node) & access == access:
            return node
        if not self._access(self._nearest_parent(path)) & access:
            raise StoreError(ErrorName.EACCES)
        if node is not None:
            raise StoreError(ErrorName.EACCES)
        return None

    def find(self, path: bytes, access: int) -> Node:
        """Return the node; one that is missing is ENOENT."""
        node = self.lookup(path, access)
        if node is None:
            raise StoreError(ErrorName.ENOENT)
        return node

    def write(self, path: bytes, value: bytes) -> None:
        """Set the node's value; create it and its parents where missing."""
        old = self.lookup(path, rights.WRITE)
        if old is None:
            node = self._create(path, value)
        else:
            node = self.tree.new_node(value, old.permissions, old.children)
            self._put_within_size([(path, node)])
        self.changed(path, node)

    def make_directory(self, path: bytes) -> None:
        """Create the node and its parents where missing."""
        if self.lookup(path, rights.WRITE) is None:
            self.changed(path, self._create(path, b""))

    def remove_tree(self, path: bytes) -> None:
        """Remove the node and all below it; one that is missing is no error if its parent is there."""
        parent = parent_path(path)
        if self.lookup(path, rights.WRITE) is None:
            if self.get(parent) is None:
                raise StoreError(ErrorName.ENOENT)
            return
        if path == b"/":
            raise StoreError(ErrorName.EINVAL)
        old = self.get(parent)
        for below, node in self._leaves_first(path):
            self.remove(below)
            self.changed(below, node, exact=below != path)
        if old is not None:
            name = path[path.rindex(b"/") + 1 :]
            left = old.children_without(name)
            self.put([(parent, self.tree.new_node(old.value, old.permissions, left))])

    def set_permissions(self, path: bytes, permissions: Permissions) -> None:
        """Set the node's permissions: its owner may, but only the privileged domain gives it another owner."""
        old = self.find(path, rights.WRITE | rights.OWNER)
        if not self.domain.is_privileged and permissions[0].domid != old.owner:
            raise StoreError(ErrorName.EPERM)
        node = self.tree.new_node(old.value, permissions, old.children)
        self._put_within_size([(path, node)])
        self.changed(path, node, old.permissions)

    def _access(self, node: Node) -> int:
        return rights.access_of(self.domain.identities, node.permissions)

    def _nearest_parent(self, path: bytes) -> Node:
        while True:
            path = parent_path(path)
            node = self.get(path)
            if node is not None:
                return node

    def _create(self, path: bytes, value: bytes) -> Node:
        missing = [path]
        while (parent := self.get(parent_path(missing[-1]))) is None:
            missing.append(parent_path(missing[-1]))
        self.admit_new_nodes(len(missing))
        permissions = rights.inherited(parent.permissions, self.domain.domid)
        node = self.tree.new_node(value, permissions, b"")
        writes = [(path, node)]
        for below, above in pairwise(missing):
            name = below[len(above) + 1 :]
            writes.append((above, self.tree.new_node(b"", permissions, name + b"\0")))
        top = missing[-1]
        children = parent.children_with(top[top.rindex(b"/") + 1 :])
        writes.append((parent_path(top), self.tree.new_node(parent.value, parent.permissions, children)))
        self._put_within_size(writes)
        return node

    def _put_within_size(self, writes: Sequence[tuple[bytes, Node]]) -> None:
        for _, node in writes:
            self.domain.usage.admit_node_size(node.size)
        self.put(writes)

    def _leaves_first(self, path: bytes) -> Iterator[tuple[bytes, Node]]:
        # No recursion: a path can be a thousand names deep.
        stack: list[tuple[bytes, Node, Iterator[bytes]]] = []
        below: bytes | None = path
        while True:
            if below is not None:
                node = self.get(below)
                if node is not None:
                    stack.append((below, node, iter(node.child_names())))
            if not stack:
                return
            here, node, names = stack[-1]
            name = next(names, None)
            below = None if name is None else child_path(here, name)
            if below is None:
                stack.pop()
                yield here, node


class DirectView(View):
    """Changes take effect at once, and watches fire at once."""

    def __init__(self, database: Database, domain: Domain, cause: Outstanding | None = None) -> None:
        super().__init__(domain, database.tree)
        self._database = database
        self._cause = cause

    def get(self, path: bytes) -> Node | None:
        """Return the node, whoever asks, or None."""
        return self.tree.get(path)

    def put(self, writes: Sequence[tuple[bytes, Node]]) -> None:
        """Create or replace the nodes."""
        self.tree.admit(writes)
        for path, node in writes:
            self.tree.put(path, node)

    def remove(self, path: bytes) -> None:
        """Take one node out."""
        self.tree.remove(path)

    def admit_new_nodes(self, count: int) -> None:
        """Let the domain create so many."""
        self.domain.usage.admit_nodes(count)

    def changed(
        self, path: bytes, node: Node, old_permissions: Permissions | None = None, *, exact: bool = False
    ) -> None:
        """Fire the watches now."""
        self._database.fire(path, node, old_permissions, exact=exact, cause=self._cause)
