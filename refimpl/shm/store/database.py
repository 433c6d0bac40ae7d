"""The store itself, no clients' connections in it: nodes, watches, domains, and how they touch each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refimpl.shm.store import permissions as rights
from refimpl.shm.store.domains import Domains
from refimpl.shm.store.permissions import PRIVILEGED, PRIVILEGED_ONLY, Permissions
from refimpl.shm.store.quotas import Quotas
from refimpl.shm.store.tree import Node, Tree
from refimpl.shm.store.view import DirectView
from refimpl.shm.store.watches import Watches
from refimpl.store.wire import INTRODUCE_DOMAIN, RELEASE_DOMAIN, parent_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from refimpl.shm.store.domains import Domain
    from refimpl.shm.store.outbox import Outstanding


class Database:
    """What all clients share. The privileged domain is introduced from the start.

    ``on_release(domid)`` is called for each domain that is released, on whose word ever.
    """

    def __init__(self, quotas: Quotas, on_release: Callable[[int], None]) -> None:
        self._on_release = on_release
        self.domains = Domains(quotas)
        self.tree = Tree(self.domains.usage)
        self.watches = Watches()
        #: Who may hear of domains that come and go.
        self.special: dict[bytes, Permissions] = {
            INTRODUCE_DOMAIN: PRIVILEGED_ONLY,
            RELEASE_DOMAIN: PRIVILEGED_ONLY,
        }
        self.domains.get(PRIVILEGED).introduced = True

    def fire(
        self,
        path: bytes,
        node: Node | None,
        old_permissions: Permissions | None = None,
        *,
        exact: bool = False,
        cause: Outstanding | None = None,
    ) -> None:
        """Send an event to every watch that matches and whose client may hear of the node.

        ``node`` is as it is now, or as it was if it is being removed; ``old_permissions`` are those before the change.
        A client may hear of a node that it can read or could read just before, or whose parent it can read.
        """
        allowed: dict[Domain, bool] = {}
        for watch in self.watches.matching(path, exact=exact):
            domain = watch.session.domain
            if domain not in allowed:
                allowed[domain] = self._may_hear(domain, path, node, old_permissions)
            if allowed[domain]:
                watch.session.send_event(watch, path, cause)

    def _may_hear(self, domain: Domain, path: bytes, node: Node | None, old_permissions: Permissions | None) -> bool:
        if old_permissions is not None and self._can_read(domain, old_permissions):
            return True
        if node is None:
            return False
        if self._can_read(domain, node.permissions):
            return True
        parent = self.tree.get(parent_path(path))
        return parent is not None and self._can_read(domain, parent.permissions)

    @staticmethod
    def _can_read(domain: Domain, permissions: Permissions) -> bool:
        return bool(rights.access_of(domain.identities, permissions) & rights.READ)

    def _fire_special(self, path: bytes) -> None:
        for watch in self.watches.matching(path, exact=True):
            if self._can_read(watch.session.domain, self.special[path]):
                watch.session.send_event(watch, path, None)

    def introduce(self, domid: int) -> None:
        """Let the domain be known; one that is already is left as it is."""
        domain = self.domains.get(domid)
        if not domain.introduced:
            domain.introduced = True
            self._fire_special(INTRODUCE_DOMAIN)

    def release(self, domid: int) -> None:
        """Forget the domain: its clients, the nodes it owns with all below them, every permission it was given."""
        domain = self.domains.get(domid)
        for session in list(domain.sessions):
            session.hang_up()
        self._remove_nodes_of(domid)
        for path, permissions in self.special.items():
            self.special[path] = rights.without(permissions, domid)
        self.domains.forget(domid)
        self._on_release(domid)
        if domain.introduced:
            self._fire_special(RELEASE_DOMAIN)

    def _remove_nodes_of(self, domid: int) -> None:
        view = DirectView(self, self.domains.get(PRIVILEGED))
        for path in sorted(self.tree.paths()):  # a node stands before all below it
            node = self.tree.get(path)
            if node is None:
                continue  # removed with one above it
            if node.owner == domid and path != b"/":
                view.remove_tree(path)
            elif any(entry.domid == domid for entry in node.permissions):
                permissions = rights.without(node.permissions, domid)
                self.tree.put(path, self.tree.new_node(node.value, permissions, node.children))
