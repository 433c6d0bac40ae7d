"""The domains that the store has heard of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refimpl.shm.store.permissions import PRIVILEGED
from refimpl.shm.store.quotas import Quotas, Usage
from refimpl.store.wire import DOMID_SELF, domain_path

if TYPE_CHECKING:
    from refimpl.shm.store.session import Session


def is_real(domid: int) -> bool:
    """Whether a domain can have this number; those above are Xen's own symbols."""
    return 0 <= domid < DOMID_SELF


class Domain:
    """One domain: what it uses, and the clients that speak for it."""

    __slots__ = ("domid", "identities", "introduced", "path", "sessions", "usage")

    def __init__(self, domid: int, quotas: Quotas) -> None:
        self.domid = domid
        #: Whose rights it has: its own and, after SET_TARGET, another's.
        self.identities: tuple[int, ...] = (domid,)
        self.introduced = False
        #: Where its relative paths start.
        self.path = domain_path(domid)
        self.sessions: set[Session] = set()
        self.usage = Usage(quotas, limited=not self.is_privileged)

    @property
    def is_privileged(self) -> bool:
        """Whether it may do everything."""
        return self.domid == PRIVILEGED


class Domains:
    """All domains by number. One that only owns a node is here too, not introduced yet."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._by_domid: dict[int, Domain] = {}

    def get(self, domid: int) -> Domain:
        """Return the domain, from now on remembered."""
        domain = self._by_domid.get(domid)
        if domain is None:
            domain = self._by_domid[domid] = Domain(domid, self._quotas)
        return domain

    def usage(self, domid: int) -> Usage:
        """Return what the domain uses."""
        return self.get(domid).usage

    def is_introduced(self, domid: int) -> bool:
        """Whether the domain is known and has not been released."""
        domain = self._by_domid.get(domid)
        return domain is not None and domain.introduced

    def forget(self, domid: int) -> None:
        """Forget the domain, and what it was allowed to act for or others to act for it."""
        self._by_domid.pop(domid, None)
        for domain in self._by_domid.values():
            if domid in domain.identities:
                domain.identities = (domain.domid,)
