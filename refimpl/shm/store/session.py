"""One client: takes its requests one by one, and queues what it is to be sent. Knows no sockets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from refimpl.errors import StoreError
from refimpl.shm.store.outbox import Outbox, Outstanding
from refimpl.shm.store.requests import HANDLERS, PRIVILEGED_OPERATIONS, WITHOUT_TRANSACTION, Request
from refimpl.shm.store.transactions import Transaction
from refimpl.shm.store.view import DirectView
from refimpl.store.wire import PAYLOAD_MAX, ErrorName, Operation, packet

if TYPE_CHECKING:
    from collections.abc import Callable

    from refimpl.shm.store.database import Database
    from refimpl.shm.store.domains import Domain
    from refimpl.shm.store.watches import Watch

_log = logging.getLogger(__name__)

_LAST_TX_ID = 0xFFFFFFFF


class Session:
    """One client of the store, speaking as one domain.

    ``outbox`` is what it is to be sent. ``is_over`` is set when the server has to hang up. ``attention`` is called when
    either has changed.
    """

    def __init__(self, database: Database, domain: Domain) -> None:
        self.domain = domain
        self.outbox = Outbox()
        self.attention: Callable[[], object] = lambda: None
        self.is_over = False
        self._database = database
        self._watches: dict[Watch, None] = {}
        self._transactions: dict[int, Transaction] = {}
        self._last_tx_id = 0
        domain.sessions.add(self)

    def handle(self, operation: int, req_id: int, tx_id: int, payload: bytes) -> None:
        """Answer one request: what it does to the store is done, and its reply is queued, when this returns."""
        outstanding = Outstanding(self.domain.usage) if self.domain.usage.limited else None
        request = Request(self._database, self, tx_id, payload, outstanding)
        try:
            reply = self._answer(operation, request)
            if len(reply) > PAYLOAD_MAX:
                raise StoreError(ErrorName.E2BIG)
        except StoreError as refusal:
            operation, reply = Operation.ERROR, refusal.error_name.encode() + b"\0"
        except Exception:
            _log.exception("a request of operation %d failed", operation)  # ours, not the client's: serve the others
            operation, reply = Operation.ERROR, b"EIO\0"
        self.outbox.add_reply(packet(operation, reply, req_id, tx_id), outstanding)
        self.attention()
        if request.new_watch is not None:
            self.send_event(request.new_watch, request.new_watch.path, None)

    def _answer(self, operation: int, request: Request) -> bytes:
        if operation in PRIVILEGED_OPERATIONS and not self.domain.is_privileged:
            raise StoreError(ErrorName.EACCES)
        handler = HANDLERS.get(operation)
        if handler is None:
            raise StoreError(ErrorName.ENOSYS)
        if not request.tx_id or operation in WITHOUT_TRANSACTION:
            request.view = DirectView(self._database, self.domain, request.outstanding)
        elif request.tx_id in self._transactions:
            request.view = self._transactions[request.tx_id]
        else:
            raise StoreError(ErrorName.ENOENT)
        return handler(request)

    def send_event(self, watch: Watch, path: bytes, cause: Outstanding | None) -> None:
        """Queue an event of one of this client's watches; one too long for a message is left out."""
        shown = watch.shown(path)
        if len(shown) + len(watch.token) + 2 <= PAYLOAD_MAX:
            self.outbox.add_event(shown, watch.token, cause)
            self.attention()

    def add_watch(self, path: bytes, token: bytes, *, relative: bool) -> Watch:
        """Set a watch. Raises StoreError EEXIST, E2BIG, ENOMEM."""
        if self._database.watches.find(self, path, token) is not None:
            raise StoreError(ErrorName.EEXIST)
        usage = self.domain.usage
        usage.admit_watch()
        usage.admit_memory(len(path) + len(token))
        watch = self._database.watches.add(self, path, token, relative=relative)
        self._watches[watch] = None
        usage.watches += 1
        usage.memory_bytes += watch.size
        return watch

    def remove_watch(self, watch: Watch) -> None:
        """End one of this client's watches."""
        self._database.watches.remove(watch)
        del self._watches[watch]
        self.domain.usage.watches -= 1
        self.domain.usage.memory_bytes -= watch.size

    def start_transaction(self) -> int:
        """Start a transaction and return its id. Raises StoreError ENOSPC."""
        transaction = Transaction(self.domain, self._database.tree)
        while (tx_id := self._last_tx_id % _LAST_TX_ID + 1) in self._transactions:
            self._last_tx_id = tx_id
        self._last_tx_id = tx_id
        self._transactions[tx_id] = transaction
        return tx_id

    def end_transaction(self, tx_id: int) -> Transaction:
        """Hand over the transaction, which is the caller's to commit now and to close."""
        return self._transactions.pop(tx_id)

    def reset(self) -> None:
        """End all watches and transactions."""
        for watch in list(self._watches):
            self.remove_watch(watch)
        for transaction in self._transactions.values():
            transaction.close()
        self._transactions.clear()

    def hang_up(self) -> None:
        """End the session: it holds nothing of the store any more, and nothing waits to be sent."""
        self.is_over = True
        self.reset()
        self.outbox.clear()
        self.domain.sessions.discard(self)
        self.attention()
