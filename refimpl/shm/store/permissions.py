"""Who may do what with a node.

A node's permissions are a list. Its first entry is the owner, who may do everything, with what all others may do; each
further entry is an exception for one domain. The privileged domain may do everything everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from refimpl.errors import StoreError
from refimpl.store.wire import ErrorName, strings

#: The domain that may do everything.
PRIVILEGED = 0

NONE = 0
READ = 1
WRITE = 2
#: Change the permissions; never in an entry, it follows from being the owner.
OWNER = 4
_EVERYTHING = READ | WRITE | OWNER

_LETTERS = {b"n": NONE, b"r": READ, b"w": WRITE, b"b": READ | WRITE}
_LETTER_OF = {access: letter for letter, access in _LETTERS.items()}
_ENTRY = re.compile(rb"([nrwb])([0-9]{1,9})")


class Permission(NamedTuple):
    """One entry: a domain and what it may do (in the first entry: what all others may do)."""

    domid: int
    access: int


Permissions = tuple[Permission, ...]

#: What only the privileged domain may see or change.
PRIVILEGED_ONLY: Permissions = (Permission(PRIVILEGED, NONE),)


def parse(texts: Sequence[bytes]) -> Permissions:
    """Read a list in the wire's form, ``[b"n1", b"r0"]``. Raises StoreError EINVAL."""
    matches = [_ENTRY.fullmatch(text) for text in texts]
    if not matches or None in matches:
        raise StoreError(ErrorName.EINVAL)
    return tuple(Permission(int(match[2]), _LETTERS[match[1]]) for match in matches if match)


def to_strings(permissions: Permissions) -> bytes:
    """Return the list as a payload has it."""
    return strings(*(b"%b%d" % (_LETTER_OF[entry.access], entry.domid) for entry in permissions))


def access_of(identities: Sequence[int], permissions: Permissions) -> int:
    """Return what a client may do, as a sum of READ, WRITE and OWNER.

    ``identities`` is the client's own domid first, then the domain it was allowed to act for, if any.
    """
    owner = permissions[0]
    if identities[0] == PRIVILEGED or owner.domid in identities:
        return _EVERYTHING
    for entry in permissions[1:]:
        if entry.domid in identities:
            return entry.access
    return owner.access


def inherited(parent: Permissions, creator: int) -> Permissions:
    """Return a new node's permissions: its parent's, but an unprivileged creator owns what it creates."""
    if creator == PRIVILEGED:
        return parent
    return (Permission(creator, parent[0].access), *parent[1:])


def without(permissions: Permissions, domid: int) -> Permissions:
    """Return the list with no trace of the domain; what it owned falls to the privileged domain.

    A later domain of the same number must not find a door open that was meant for this one.
    """
    owner = permissions[0]
    if owner.domid == domid:
        owner = owner._replace(domid=PRIVILEGED)
    return (owner, *(entry for entry in permissions[1:] if entry.domid != domid))
