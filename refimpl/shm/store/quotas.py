"""What one domain may use of the store, and what it has used.

The limits and the way each is counted are C xenstored's; the privileged domain has none.
"""

from __future__ import annotations

from dataclasses import dataclass

from refimpl.errors import StoreError
from refimpl.store.wire import RELATIVE_PATH_MAX, ErrorName


@dataclass(frozen=True)
class Quotas:
    """The limits of each unprivileged domain. The defaults are C xenstored's; the last three are ours alone."""

    #: Nodes it owns.
    nodes: int = 1000
    #: Watches, all its connections together.
    watches: int = 128
    #: Transactions at a time.
    transactions: int = 10
    #: Nodes that one transaction looks at or changes.
    transaction_nodes: int = 1024
    #: Entries in a node's permissions.
    permissions: int = 5
    #: Bytes of one node: see :attr:`refimpl.shm.store.tree.Node.size`.
    node_bytes: int = 2048
    #: Bytes of all its nodes and watches, and of what its transactions have changed.
    memory_bytes: int = 2_621_440
    #: Requests whose reply, or whose watch events to others, have not all been sent.
    outstanding: int = 20
    #: Bytes of a path, not counting a leading ``/local/domain/<domid>/``. Also holds for the privileged domain.
    path_bytes: int = RELATIVE_PATH_MAX
    #: Connections at a time; further ones wait to be accepted.
    connections: int = 32
    #: Bytes queued for one client that does not read; more, and it is dropped. Also for the privileged domain.
    output_bytes: int = 2 << 20
    #: Seconds a client may let something wait in its queue before it is dropped. Also for the privileged domain.
    stall_seconds: float = 20.0


class Usage:
    """What one domain has used; each ``admit`` raises StoreError with the error the client is answered with."""

    __slots__ = ("limited", "memory_bytes", "nodes", "outstanding", "quotas", "transactions", "watches")

    def __init__(self, quotas: Quotas, *, limited: bool) -> None:
        self.quotas = quotas
        self.limited = limited
        self.nodes = 0
        self.memory_bytes = 0
        self.watches = 0
        self.transactions = 0
        self.outstanding = 0

    def admit_nodes(self, count: int) -> None:
        """Let the domain create so many nodes more."""
        if self.limited and self.nodes + count > self.quotas.nodes:
            raise StoreError(ErrorName.ENOSPC)

    def admit_node_size(self, size_bytes: int) -> None:
        """Let the domain write a node of this size."""
        if self.limited and size_bytes >= self.quotas.node_bytes:
            raise StoreError(ErrorName.ENOSPC)

    def admit_memory(self, growth_bytes: int) -> None:
        """Let what the domain holds grow; it may always shrink."""
        if self.limited and growth_bytes > 0 and self.memory_bytes + growth_bytes >= self.quotas.memory_bytes:
            raise StoreError(ErrorName.ENOMEM)

    def admit_permissions(self, count: int) -> None:
        """Let the domain give a node so many permission entries."""
        if self.limited and count > self.quotas.permissions:
            raise StoreError(ErrorName.ENOSPC)

    def admit_watch(self) -> None:
        """Let the domain set one watch more. C xenstored looks before it counts, so there is one above the limit."""
        if self.limited and self.watches > self.quotas.watches:
            raise StoreError(ErrorName.E2BIG)

    def admit_transaction(self) -> None:
        """Let the domain start one transaction more; again there is one above the limit."""
        if self.limited and self.transactions > self.quotas.transactions:
            raise StoreError(ErrorName.ENOSPC)

    def admit_transaction_node(self, used: int) -> None:
        """Let a transaction that has touched ``used`` nodes touch another."""
        if self.limited and used >= self.quotas.transaction_nodes:
            raise StoreError(ErrorName.ENOSPC)

    @property
    def may_ask(self) -> bool:
        """Whether the domain's next request is taken now, or only when earlier ones have left the server."""
        return not self.limited or self.outstanding < self.quotas.outstanding
