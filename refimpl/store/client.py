"""A xenstore client that never hangs: pyxs's client on a router and connections of ours.

Every call ends with its result, with xenstore's own error as a :class:`~refimpl.errors.StoreError`, or with
:class:`~refimpl.errors.StoreLost`, which is final: connect anew. Nothing of pyxs's comes out.
"""

from __future__ import annotations

import copy
import errno
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

from pyxs.client import Client as PyxsClient
from pyxs.exceptions import InvalidPath, InvalidPayload, InvalidPermission, PyXSError, UnexpectedPacket

from refimpl.errors import (
    Misuse,
    RefimplError,
    StoreAccessRefused,
    StoreConflict,
    StoreError,
    StoreExists,
    StoreLost,
    StoreNoEntry,
    StoreQuotaReached,
)
from refimpl.platform import Store, StoreView, Watch
from refimpl.store.connection import LARGEST_ANSWER, DeviceConnection, SocketConnection, make_packet
from refimpl.store.router import Router
from refimpl.store.wire import Operation, strings

#: How often :meth:`StoreClient.transact` does a transaction before it gives up.
MOST_ATTEMPTS = 64
_LONGEST_PAUSE = 0.02
#: How many refused requests :meth:`StoreClient.transact` takes for conflicts.
_MOST_REFUSALS = 4
_LONGEST_ERROR_NAME = 32

_NUL = b"\0"

Result = TypeVar("Result")

_ERRORS: dict[str, type[StoreError]] = {
    "ENOENT": StoreNoEntry,
    "EACCES": StoreAccessRefused,
    "EPERM": StoreAccessRefused,
    "EEXIST": StoreExists,
    "EAGAIN": StoreConflict,
    "ENOSPC": StoreQuotaReached,
    "EDQUOT": StoreQuotaReached,
    "E2BIG": StoreQuotaReached,
}


class _ErrorAnswer(PyXSError):  # type: ignore[misc]
    """The server's ERROR, by its own word, which ``errno`` need not know."""

    def __init__(self, payload: bytes) -> None:
        word = payload.split(_NUL)[0][:_LONGEST_ERROR_NAME]
        self.error_name = word.decode("ascii", "backslashreplace") or "an error without a name"
        super().__init__(getattr(errno, self.error_name, 0), self.error_name)


class _Requests(PyxsClient):  # type: ignore[misc]
    """pyxs's requests, with any bytes as values, a deadline each, and long directories in parts."""

    router: Router

    def execute_command(self, op: int, *arguments: bytes) -> bytes:
        """Send one request in this object's transaction; return its answer, less the one NUL that ends text."""
        payload = b"".join(arguments)
        if len(payload) > self.router.connection.largest_request:
            raise InvalidPayload(payload)
        answer = self.router.request(make_packet(op, payload, self.tx_id))
        if answer.op == Operation.ERROR:
            raise _ErrorAnswer(answer.payload)
        if answer.op != op or answer.tx_id != self.tx_id:
            raise UnexpectedPacket(f"type {answer.op} of transaction {answer.tx_id} answers type {op}")
        received: bytes = answer.payload
        return received if op == Operation.READ else received.removesuffix(_NUL)

    def _list_in_parts(self, path: bytes) -> list[bytes]:
        deadline = time.monotonic() + self.router.timeout
        generation, text = b"", bytearray()
        while not text.endswith(_NUL + _NUL):
            if time.monotonic() > deadline:
                raise UnexpectedPacket("the directory did not come to its end in time")
            # execute_command has taken one NUL off the end; every piece has one there.
            answer = self.execute_command(Operation.DIRECTORY_PART, strings(path, b"%d" % len(text))) + _NUL
            current, _, piece = answer.partition(_NUL)
            if text and current != generation:
                text.clear()  # It changed between two pieces: once more from the start.
                continue
            generation = current
            if piece == _NUL:  # Nothing at this offset or after it.
                break
            text += piece
            if not piece or len(text) > LARGEST_ANSWER:
                raise UnexpectedPacket("the pieces of the directory do not add up")
        return bytes(text).rstrip(_NUL).split(_NUL) if text else []

    def watch(self, path: bytes, token: bytes) -> None:
        """Register a watch with the server."""
        self.ack(Operation.WATCH, strings(path, token))

    def list(self, path: bytes) -> list[bytes]:
        """Return the children's names, however many there are."""
        try:
            names: list[bytes] = super().list(path)
        except _ErrorAnswer as error:
            if error.error_name != "E2BIG":
                raise
            try:
                names = self._list_in_parts(path)
            except _ErrorAnswer as second:
                raise error if second.error_name == "ENOSYS" else second from None
        return names


class _View(StoreView):
    """The requests of :class:`StoreView`, alone or in the transaction that ``_requests`` is in."""

    _requests: _Requests

    def read(self, path: str) -> bytes:
        value: bytes = self._ask(path, self._requests.read)
        return value

    def write(self, path: str, value: bytes) -> None:
        self._ask(path, self._requests.write, bytes(value))

    def make_directory(self, path: str) -> None:
        self._ask(path, self._requests.mkdir)

    def remove(self, path: str) -> None:
        self._ask(path, self._requests.delete)

    def get_permissions(self, path: str) -> list[str]:
        return [entry.decode("ascii", "backslashreplace") for entry in self._ask(path, self._requests.get_perms)]

    def set_permissions(self, path: str, permissions: Sequence[str]) -> None:
        self._ask(path, self._requests.set_perms, [entry.encode() for entry in permissions])

    def list(self, path: str) -> list[str]:
        return [name.decode("ascii", "backslashreplace") for name in self._ask(path, self._requests.list)]

    def _ask(self, path: str, request: Callable[..., Any], *arguments: Any) -> Any:
        return self._carry_out(path, lambda: request(_wire_path(path), *arguments))

    def _carry_out(self, path: str, request: Callable[[], Any]) -> Any:
        """Make one request, about ``path``; turn what pyxs raises into ours."""
        try:
            return request()
        except _ErrorAnswer as error:
            raise _ERRORS.get(error.error_name, StoreError)(error.error_name, path) from None
        except InvalidPayload:
            raise StoreQuotaReached("E2BIG", path, "path and value do not fit one request") from None
        except InvalidPath:
            raise StoreError("EINVAL", path, "xenstore takes no such path") from None
        except InvalidPermission as error:
            raise StoreError("EINVAL", path, f"xenstore takes no such permission: {error}") from None
        except StoreLost as lost:
            raise StoreLost(lost.error_name, path, lost.detail) from None
        except RefimplError:
            raise
        except (PyXSError, KeyError, ValueError) as error:
            nonsense = StoreLost("EPROTO", path, f"the server's answer makes no sense: {error}")
            self._requests.router.lose(nonsense)
            raise nonsense from None


class _Transaction(_View):
    """The view of one transaction; ``refusal`` is the last error xenstore answered to a request made in it."""

    def __init__(self, requests: _Requests) -> None:
        self._requests = requests
        self.refusal: StoreError | None = None
        super()._carry_out("", requests.transaction)

    def commit(self) -> None:
        if not self._carry_out("", self._requests.commit):
            raise StoreConflict("EAGAIN", "", "the transaction has to be done again")

    def abort(self) -> None:
        with suppress(RefimplError):  # The server has ended it already, or is gone: the caller's error says more.
            self._carry_out("", self._requests.rollback)
        self._requests.tx_id = 0

    def _carry_out(self, path: str, request: Callable[[], Any]) -> Any:
        if not self._requests.tx_id:  # Else the request would quietly be made outside any transaction.
            raise Misuse("the transaction is over")
        try:
            return super()._carry_out(path, request)
        except StoreLost:
            raise
        except StoreError as error:
            self.refusal = error
            raise


class StoreClient(_View, Store):
    """A connection to xenstore, over a unix socket or ``/dev/xen/xenbus``; one thread of its own reads it.

    All methods may be called from any thread, but not from a watch's callback (Misuse), except :meth:`close` and a
    watch's ``cancel``.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._requests = _Requests(router=router)

    @classmethod
    def connect(cls, path: str | None = None, *, timeout: float = 10.0) -> Self:
        """Connect to a server's unix socket; None is where libxenstore would look. Raises StoreLost.

        ``timeout`` in seconds limits each request; a server that is silent for longer is lost.
        """
        return cls._start(SocketConnection(path, timeout), timeout)

    @classmethod
    def connect_device(cls, path: str = "/dev/xen/xenbus", *, timeout: float = 10.0) -> Self:
        """Connect through Linux's device, as any Xen domain can. Raises StoreLost."""
        return cls._start(DeviceConnection(path), timeout)

    @classmethod
    def _start(cls, connection: SocketConnection | DeviceConnection, timeout: float) -> Self:
        router = Router(connection, timeout)
        router.start()
        return cls(router)

    def transact(self, action: Callable[[StoreView], Result]) -> Result:
        """See :meth:`Store.transact`; at most :data:`MOST_ATTEMPTS` times, with short pauses of random length.

        A request refused in a transaction may be no more than a conflict: C xenstored shows a node as it is when it is
        first looked at, so a parent can be missing whose child is there. Such refusals come out only when they come
        again and again.
        """
        refusals = 0
        for attempt in range(1, MOST_ATTEMPTS):
            transaction = _Transaction(copy.copy(self._requests))  # A pyxs client holds one transaction.
            try:
                return self._transact_once(transaction, action)
            except StoreConflict:
                pass
            except StoreError as error:
                refusals += 1
                if error is not transaction.refusal or refusals > _MOST_REFUSALS:
                    raise
            time.sleep(random.uniform(0, min(0.0001 * attempt, _LONGEST_PAUSE)))
        return self._transact_once(_Transaction(copy.copy(self._requests)), action)

    def _transact_once(self, transaction: _Transaction, action: Callable[[StoreView], Result]) -> Result:
        try:
            result = action(transaction)
        except BaseException:
            transaction.abort()
            raise
        transaction.commit()
        return result

    def watch(self, path: str, callback: Callable[[str], None]) -> Watch:
        """See :meth:`Store.watch`. More changes at once than are kept are told as one, of ``path`` itself."""
        self._router.check_caller()
        watch = self._router.watches.add(path, callback, self._router.unregister)
        try:
            self._ask(path, self._requests.watch, watch.token)
        except BaseException:
            self._router.watches.remove(watch)
            raise
        return watch

    def on_lost(self, callback: Callable[[], None]) -> None:
        """See :meth:`Store.on_lost`; a :meth:`close` of our own is no loss."""
        self._router.check_process()
        self._router.on_lost(callback)

    def is_introduced(self, domid: int) -> bool:
        """Say whether xenstore knows the domain: it is there and has not died."""
        introduced: bool = self._carry_out("", lambda: self._requests.is_domain_introduced(domid))
        return introduced

    def close(self) -> None:
        """Close the connection: whoever waits gets StoreLost, watches end, no callback runs after this returns."""
        self._router.terminate()


def _wire_path(path: str) -> bytes:
    """Return the path as sent; a NUL would end it early and let the rest pass for a value."""
    if not path.isascii() or "\0" in path:
        raise InvalidPath(path)
    return path.encode()
