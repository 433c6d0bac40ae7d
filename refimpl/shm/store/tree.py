"""The nodes of the store.

A node is never changed, only replaced: whoever holds one holds what was there at that time. So a transaction sees a
conflict by looking whether the node it saw is still the very same object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from refimpl.shm.store.permissions import PRIVILEGED_ONLY, Permissions
from refimpl.shm.store.quotas import Usage

#: What C xenstored counts for a node besides its value and its children's names, and for each permission, in bytes.
_NODE_OVERHEAD = 24
_PERMISSION_OVERHEAD = 8


class Node(NamedTuple):
    """One node as it was at one time. ``children`` is their names, each ended by a NUL, oldest first."""

    value: bytes
    permissions: Permissions
    children: bytes
    #: Counts all writes to the store; no two writes give the same.
    generation: int

    @property
    def owner(self) -> int:
        """The domid of the node's owner."""
        return self.permissions[0].domid

    @property
    def size(self) -> int:
        """The bytes that quotas count for the node."""
        overhead = _NODE_OVERHEAD + _PERMISSION_OVERHEAD * len(self.permissions)
        return overhead + len(self.value) + len(self.children)

    def child_names(self) -> list[bytes]:
        """Return the names of the node's children, oldest first."""
        return self.children.split(b"\0")[:-1]

    def children_with(self, name: bytes) -> bytes:
        """Return ``children`` with one more at the end."""
        return self.children + name + b"\0"

    def children_without(self, name: bytes) -> bytes:
        """Return ``children`` with that one left out."""
        return (b"\0" + self.children).replace(b"\0" + name + b"\0", b"\0", 1)[1:]


Writes = Iterable[tuple[bytes, Node]]


class Tree:
    """All nodes by their absolute path, each counted to its owner.

    ``usage_of`` gives what a domain uses. A new tree holds what C xenstored starts with.
    """

    def __init__(self, usage_of: Callable[[int], Usage]) -> None:
        self._usage_of = usage_of
        self._nodes: dict[bytes, Node] = {}
        self._generation = 0
        #: ``get(path)``: the node, or None where there is none.
        self.get: Callable[[bytes], Node | None] = self._nodes.get
        for path, children in ((b"/", b"tool\0"), (b"/tool", b"xenstored\0"), (b"/tool/xenstored", b"")):
            self.put(path, self.new_node(b"", PRIVILEGED_ONLY, children))

    def __len__(self) -> int:
        return len(self._nodes)

    def paths(self) -> list[bytes]:
        """Return the paths of all nodes, in no order."""
        return list(self._nodes)

    def new_node(self, value: bytes, permissions: Permissions, children: bytes) -> Node:
        """Return a node of a new generation, not yet in the tree."""
        self._generation += 1
        return Node(value, permissions, children, self._generation)

    def admit(self, writes: Writes) -> None:
        """Let the writes use their owners' memory, all of them or none. Raises StoreError ENOMEM."""
        growth: dict[int, int] = {}
        for path, node in writes:
            growth[node.owner] = growth.get(node.owner, 0) + self._bytes_of(path, node)
            old = self._nodes.get(path)
            if old is not None:
                growth[old.owner] = growth.get(old.owner, 0) - self._bytes_of(path, old)
        for owner, growth_bytes in growth.items():
            self._usage_of(owner).admit_memory(growth_bytes)

    def put(self, path: bytes, node: Node) -> None:
        """Create or replace a node. Its parent's ``children`` is the caller's to keep right."""
        self._uncount(path)
        usage = self._usage_of(node.owner)
        usage.nodes += 1
        usage.memory_bytes += self._bytes_of(path, node)
        self._nodes[path] = node

    def remove(self, path: bytes) -> None:
        """Take a node out, if it is there. Its parent and its children are the caller's to keep right."""
        self._uncount(path)
        self._nodes.pop(path, None)

    def _uncount(self, path: bytes) -> None:
        old = self._nodes.get(path)
        if old is not None:
            usage = self._usage_of(old.owner)
            usage.nodes -= 1
            usage.memory_bytes -= self._bytes_of(path, old)

    @staticmethod
    def _bytes_of(path: bytes, node: Node) -> int:
        return node.size + len(path)
