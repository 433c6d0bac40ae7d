"""What each operation does: one function each, from the request's payload to the reply's.

Where C xenstored and oxenstored differ, the answer here is C xenstored's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from refimpl.errors import StoreError
from refimpl.shm.store import permissions as rights
from refimpl.shm.store.domains import is_real
from refimpl.shm.store.transactions import Transaction
from refimpl.store.wire import (
    DOMID_SELF,
    OK,
    PAYLOAD_MAX,
    RELATIVE_PATH_MAX,
    ErrorName,
    Operation,
    domain_path,
    is_special_path,
    split_strings,
)

if TYPE_CHECKING:
    from refimpl.shm.store.database import Database
    from refimpl.shm.store.domains import Domain
    from refimpl.shm.store.outbox import Outstanding
    from refimpl.shm.store.session import Session
    from refimpl.shm.store.tree import Node
    from refimpl.shm.store.view import View
    from refimpl.shm.store.watches import Watch

_LAST_DOMID = 0xFFFF


class Request:
    """One request: who asks, for what, and through which view of the tree."""

    __slots__ = ("database", "new_watch", "outstanding", "payload", "session", "tx_id", "view")

    view: View

    def __init__(
        self,
        database: Database,
        session: Session,
        tx_id: int,
        payload: bytes,
        outstanding: Outstanding | None,
    ) -> None:
        self.database = database
        self.session = session
        self.tx_id = tx_id
        self.payload = payload
        self.outstanding = outstanding
        #: A watch that was set, whose first event stands behind the reply.
        self.new_watch: Watch | None = None

    def only_string(self) -> bytes:
        """Return the payload that is one string and nothing else."""
        if not self.payload or self.payload.find(b"\0") != len(self.payload) - 1:
            raise StoreError(ErrorName.EINVAL)
        return self.payload[:-1]

    def strings(self, at_least: int) -> list[bytes]:
        """Return the payload's strings."""
        found = split_strings(self.payload)
        if len(found) < at_least:
            raise StoreError(ErrorName.EINVAL)
        return found

    def absolute(self, path: bytes) -> bytes:
        """Return the path from the root; a relative one starts at the client's own directory."""
        if path.startswith((b"/", b"@")):
            return path
        return self.session.domain.path + b"/" + path

    def domid(self, text: bytes) -> int:
        """Return the domain's number that stands in the payload."""
        if not text.isdigit() or len(text) > 5 or int(text) > _LAST_DOMID:
            raise StoreError(ErrorName.EINVAL)
        return int(text)

    def known_domain(self, text: bytes) -> Domain:
        """Return an introduced domain by its number."""
        domid = self.domid(text)
        if not self.database.domains.is_introduced(domid):
            raise StoreError(ErrorName.ENOENT)
        return self.database.domains.get(domid)

    def readable_node(self, path: bytes) -> Node:
        """Return the node at the path, which the client may read."""
        return self.view.find(self.absolute(path), rights.READ)


def directory(request: Request) -> bytes:
    """DIRECTORY: the names of a node's children."""
    return request.readable_node(request.only_string()).children


def read(request: Request) -> bytes:
    """READ: a node's value."""
    return request.readable_node(request.only_string()).value


def get_perms(request: Request) -> bytes:
    """GET_PERMS: a node's permissions."""
    return rights.to_strings(request.readable_node(request.only_string()).permissions)


def directory_part(request: Request) -> bytes:
    """DIRECTORY_PART: the names of a node's children from an offset in bytes, as many as one message takes.

    The reply starts with the node's generation, the same as long as the list is; an empty name stands at its end.
    """
    path, offset_text, *rest = request.strings(2)
    if rest or not offset_text.isdigit() or len(offset_text) > 9:
        raise StoreError(ErrorName.EINVAL)
    node = request.readable_node(path)
    generation = b"%d\0" % node.generation
    offset = int(offset_text)
    part = node.children[offset : offset + PAYLOAD_MAX - len(generation) - 1]
    part = part[: part.rfind(b"\0") + 1]
    is_last = offset + len(part) >= len(node.children)
    return generation + part + (b"\0" if is_last else b"")


def write(request: Request) -> bytes:
    """WRITE: set a node's value, creating it and its parents."""
    path, terminator, value = request.payload.partition(b"\0")
    if not terminator:
        raise StoreError(ErrorName.EINVAL)
    request.view.write(request.absolute(path), value)
    return OK


def mkdir(request: Request) -> bytes:
    """MKDIR: create a node and its parents, unless it is there."""
    request.view.make_directory(request.absolute(request.only_string()))
    return OK


def rm(request: Request) -> bytes:
    """RM: remove a node and all below it."""
    request.view.remove_tree(request.absolute(request.only_string()))
    return OK


def set_perms(request: Request) -> bytes:
    """SET_PERMS: set the permissions of a node, or of a special path's events."""
    path, *texts = request.strings(2)
    request.session.domain.usage.admit_permissions(len(texts))
    permissions = rights.parse(texts)
    if not is_real(permissions[0].domid):
        raise StoreError(ErrorName.ENOENT)
    if is_special_path(path):
        _set_special_permissions(request, path, permissions)
    else:
        request.view.set_permissions(request.absolute(path), permissions)
    return OK


def _set_special_permissions(request: Request, path: bytes, permissions: rights.Permissions) -> None:
    special = request.database.special
    if path not in special:
        raise StoreError(ErrorName.EINVAL)
    access = rights.access_of(request.session.domain.identities, special[path])
    if access & (rights.WRITE | rights.OWNER) != rights.WRITE | rights.OWNER:
        raise StoreError(ErrorName.EACCES)
    special[path] = permissions


def _watch_arguments(request: Request) -> tuple[bytes, bytes]:
    found = request.strings(2)
    if len(found) != 2:
        raise StoreError(ErrorName.EINVAL)
    return found[0], found[1]


def watch(request: Request) -> bytes:
    """WATCH: hear of changes at or below a path. The first event follows the reply at once."""
    path, token = _watch_arguments(request)
    absolute = request.absolute(path)
    if is_special_path(path):
        if len(path) > RELATIVE_PATH_MAX:
            raise StoreError(ErrorName.EINVAL)
    elif not request.view.is_legal(absolute):
        raise StoreError(ErrorName.EINVAL)
    request.new_watch = request.session.add_watch(absolute, token, relative=absolute != path)
    return OK


def unwatch(request: Request) -> bytes:
    """UNWATCH: end a watch."""
    path, token = _watch_arguments(request)
    found = request.database.watches.find(request.session, request.absolute(path), token)
    if found is None:
        raise StoreError(ErrorName.ENOENT)
    request.session.remove_watch(found)
    return OK


def reset_watches(request: Request) -> bytes:
    """RESET_WATCHES: end all watches and transactions of the client."""
    request.session.reset()
    return OK


def transaction_start(request: Request) -> bytes:
    """TRANSACTION_START: the new transaction's id, in decimal."""
    if isinstance(request.view, Transaction):
        raise StoreError(ErrorName.EBUSY)
    return b"%d\0" % request.session.start_transaction()


def transaction_end(request: Request) -> bytes:
    """TRANSACTION_END: commit (T) or drop (F). Whatever the answer, the transaction is over."""
    decision = request.only_string()
    if decision not in (b"T", b"F"):
        raise StoreError(ErrorName.EINVAL)
    if not isinstance(request.view, Transaction):
        raise StoreError(ErrorName.ENOENT)
    transaction = request.session.end_transaction(request.tx_id)
    try:
        if decision == b"T":
            transaction.commit(request.database.domains.usage, _announcing(request))
    finally:
        transaction.close()
    return OK


def _announcing(request: Request) -> Callable[[bytes, Node | None, Node | None, bool], None]:
    def announce(path: bytes, found: Node | None, node: Node | None, exact: bool) -> None:
        old_permissions = found.permissions if found else None
        request.database.fire(path, node, old_permissions, exact=exact, cause=request.outstanding)

    return announce


def get_domain_path(request: Request) -> bytes:
    """GET_DOMAIN_PATH: where a domain's relative paths start."""
    return domain_path(request.domid(request.only_string())) + b"\0"


def is_domain_introduced(request: Request) -> bytes:
    """IS_DOMAIN_INTRODUCED: T or F."""
    domid = request.domid(request.only_string())
    return b"T\0" if domid == DOMID_SELF or request.database.domains.is_introduced(domid) else b"F\0"


def introduce(request: Request) -> bytes:
    """INTRODUCE: let a domain be known. Its ring's page and port mean nothing here."""
    domid = request.domid(request.strings(3)[0])
    if not is_real(domid):
        raise StoreError(ErrorName.ENOENT)
    request.database.introduce(domid)
    return OK


def release(request: Request) -> bytes:
    """RELEASE: forget a domain."""
    text = request.only_string()
    if request.domid(text) == rights.PRIVILEGED:
        raise StoreError(ErrorName.EINVAL)
    request.database.release(request.known_domain(text).domid)
    return OK


def resume(request: Request) -> bytes:
    """RESUME: a domain runs again; nothing is to be done, since a domain here is alive or dead."""
    text = request.only_string()
    if request.domid(text) == rights.PRIVILEGED:
        raise StoreError(ErrorName.EINVAL)
    request.known_domain(text)
    return OK


def set_target(request: Request) -> bytes:
    """SET_TARGET: let a domain act with another's rights besides its own."""
    domain, target = (request.known_domain(text) for text in request.strings(2)[:2])
    domain.identities = (domain.domid, target.domid)
    return OK


HANDLERS: dict[int, Callable[[Request], bytes]] = {
    Operation.DIRECTORY: directory,
    Operation.READ: read,
    Operation.GET_PERMS: get_perms,
    Operation.WATCH: watch,
    Operation.UNWATCH: unwatch,
    Operation.TRANSACTION_START: transaction_start,
    Operation.TRANSACTION_END: transaction_end,
    Operation.INTRODUCE: introduce,
    Operation.RELEASE: release,
    Operation.GET_DOMAIN_PATH: get_domain_path,
    Operation.WRITE: write,
    Operation.MKDIR: mkdir,
    Operation.RM: rm,
    Operation.SET_PERMS: set_perms,
    Operation.IS_DOMAIN_INTRODUCED: is_domain_introduced,
    Operation.RESUME: resume,
    Operation.SET_TARGET: set_target,
    Operation.RESET_WATCHES: reset_watches,
    Operation.DIRECTORY_PART: directory_part,
}

#: Only the privileged domain may; others are answered EACCES.
PRIVILEGED_OPERATIONS = frozenset(
    {
        Operation.CONTROL,
        Operation.INTRODUCE,
        Operation.RELEASE,
        Operation.IS_DOMAIN_INTRODUCED,
        Operation.RESUME,
        Operation.SET_TARGET,
    }
)

#: The header's ``tx_id`` is not looked at.
WITHOUT_TRANSACTION = frozenset({Operation.WATCH, Operation.UNWATCH})
