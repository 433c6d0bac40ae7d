"""The commands ring itself: one page, 32 slots, requests one way and responses back through the same slots.

    frontend                                       backend
    push_request   slot, fence, req_prod      -->  take_request     req_prod, fence, copy of the slot
    take_response  rsp_prod, fence, copy      <--  push_response    slot, fence, rsp_prod

All four indexes run freely modulo 2**32; index ``i`` means slot ``i & 31``. Each end keeps its own indexes privately
and only ever writes them to the page; what it reads there are the other end's producer and event index, each once,
and believes them only within bounds.

*Hold-off*: an end that is about to sleep stores into its event index the message it wants to be woken for, and looks
once more (:meth:`FrontRing.final_check`). The other end notifies only when its new messages include that one. Both
store before they load, with a full fence between: so at least one of them sees what the other did.

One thread at a time uses an end: its callers hold a lock.

Spec: Commands Ring (the page, request and response publication), and ring.h, which it stands on.
"""

from __future__ import annotations

from typing import ClassVar

from refimpl.commands.message import REQUEST_SIZE_BYTES, RESPONSE_SIZE_BYTES
from refimpl.errors import Misuse, PeerViolation
from refimpl.layout import Layout
from refimpl.platform import PAGE_SIZE, Fences

__all__ = [
    "NOTICE_BYTE",
    "RESPONSE_SIZE_BYTES",
    "RING_PAGE",
    "RING_SLOTS",
    "SLOT_SIZE_BYTES",
    "BackRing",
    "FrontRing",
    "must_notify",
    "slot_offset",
]

#: A slot holds a request, later the response that answers some request.
SLOT_SIZE_BYTES = REQUEST_SIZE_BYTES  # RING-5
#: 63 slots would fit after the 64 bytes of header: rounded down to a power of two.
RING_SLOTS = 32  # FNODE-5, RING-1

#: The page. req_prod and rsp_event are the frontend's to write, rsp_prod and req_event the backend's.
RING_PAGE = Layout(  # RING-1
    "xen_pvcalls_sring",
    ("req_prod", "I"),
    ("req_event", "I"),
    ("rsp_prod", "I"),
    ("rsp_event", "I"),
    ("pvt", "4x"),
    ("pad", "44x"),
    ("ring", f"{RING_SLOTS * SLOT_SIZE_BYTES}s"),
    total_size=PAGE_SIZE,
)

#: The last byte of ``pad``, which the protocol leaves alone. A frontend of ours sets it while its platform has been
#: asked to clear it at the frontend's death, and ours is the only backend that looks.
NOTICE_BYTE = RING_PAGE.offset_of("ring") - 1

_INDEX_MASK = 0xFFFFFFFF
_FIRST_SLOT = RING_PAGE.offset_of("ring")
_REQ_PROD, _REQ_EVENT, _RSP_PROD, _RSP_EVENT = (
    RING_PAGE.offset_of(name) // 4 for name in ("req_prod", "req_event", "rsp_prod", "rsp_event")
)


def must_notify(new: int, old: int, event: int) -> bool:
    """Say whether publishing the messages from index ``old`` up to ``new`` reached the one ``event`` waits for.

    Event ``e`` waits for message ``e - 1``, so the question is whether ``old < event <= new``, modulo 2**32.
    """
    return (new - event) & _INDEX_MASK < (new - old) & _INDEX_MASK  # RING-12, RING-18


def slot_offset(index: int) -> int:
    """Return where in the page the slot of a free-running index starts, in bytes."""
    return _FIRST_SLOT + (index % RING_SLOTS) * SLOT_SIZE_BYTES


class _RingEnd:
    """What the two ends share: they are each other's mirror image.

    ``_outstanding`` of the frontend and ``_owed`` of the backend bound what the peer may have published.
    """

    __slots__ = ("_awaited", "_consumed", "_fences", "_page", "_peer", "_produced", "_seen", "_words")

    # Which words of the page this end writes, and which it reads.
    _own_producer: ClassVar[int]
    _own_event: ClassVar[int]
    _peer_producer: ClassVar[int]
    _peer_event: ClassVar[int]
    # How a peer's impossible producer index is reported.
    _requirement: ClassVar[str]
    _field: ClassVar[str]

    def __init__(self, page: memoryview, fences: Fences, peer: int | None = None, *, start_index: int = 0) -> None:
        if len(page) != PAGE_SIZE:
            raise Misuse(f"the commands ring is one page of {PAGE_SIZE} bytes, not {len(page)}")
        self._page = page[:]
        self._words = page.cast("I")
        self._fences = fences
        self._peer = peer
        # Private, and never read back from the page. The peer's index is kept too, once it was found possible.
        self._produced = self._consumed = self._seen = start_index & _INDEX_MASK  # SEC-B-3, SEC-F-5
        #: The message we have asked to be notified of; None before the first.
        self._awaited: int | None = None

    def release(self) -> None:
        """Let go of every view of the page. The end cannot be used any more; a second call does nothing."""
        self._words.release()
        self._page.release()

    def _room(self) -> int:
        """Return how many messages the peer may have published that we have not taken."""
        raise NotImplementedError

    def _unconsumed(self) -> int:
        """Return how many of the peer's messages wait to be taken, reading its index only when none is known.

        A read fence stands after the read. Raises PeerViolation.
        """
        consumed = self._consumed
        known = (self._seen - consumed) & _INDEX_MASK
        if known:
            return known
        seen = self._words[self._peer_producer]
        if seen == consumed:
            return 0
        waiting = (seen - consumed) & _INDEX_MASK
        room = self._room()
        if waiting > room:  # SEC-B-1, SEC-F-1
            allowed = f"{consumed} and at most {room} more"
            raise PeerViolation(self._requirement, self._field, seen, allowed, self._peer)
        self._fences.read()
        self._seen = seen
        return waiting

    def _take(self, size_bytes: int) -> bytes | None:
        if not self._unconsumed():
            return None
        offset = slot_offset(self._consumed)
        message = self._page[offset : offset + size_bytes].tobytes()  # SEC-B-2, SEC-F-2 (E-SLOT)
        self._consumed = (self._consumed + 1) & _INDEX_MASK
        return message

    def _push(self, message: bytes) -> bool:
        offset = slot_offset(self._produced)
        self._page[offset : offset + len(message)] = message
        old = self._produced
        self._produced = new = (old + 1) & _INDEX_MASK
        self._fences.write()
        self._words[self._own_producer] = new
        self._fences.full()
        return must_notify(new, old, self._words[self._peer_event])

    def _final_check(self) -> bool:
        if self._unconsumed():
            return True
        awaited = (self._consumed + 1) & _INDEX_MASK
        if awaited == self._awaited:
            return False  # Asked for already, and not there: whoever publishes it sees that.
        self._awaited = self._words[self._own_event] = awaited
        self._fences.full()
        return self._unconsumed() > 0


class FrontRing(_RingEnd):
    """The frontend's end: pushes requests, takes responses.

    ``page`` is the granted page, ``peer`` the backend's domid for error messages. ``start_index`` is where all indexes
    start, on both ends; the protocol says 0.
    """

    __slots__ = ()
    _own_producer, _own_event = _REQ_PROD, _RSP_EVENT
    _peer_producer, _peer_event = _RSP_PROD, _REQ_EVENT
    _requirement, _field = "SEC-F-1", "rsp_prod"

    def initialise(self) -> None:
        """Prepare the page, before its grant is published: producers 0, events 1, all other bytes zero."""
        self._page[:] = bytes(PAGE_SIZE)  # SEC-F-8
        for producer, event in ((_REQ_PROD, _REQ_EVENT), (_RSP_PROD, _RSP_EVENT)):
            self._words[producer] = self._produced  # RING-1
            self._words[event] = (self._produced + 1) & _INDEX_MASK

    @property
    def free_requests(self) -> int:
        """How many requests can be pushed now: 32 less those whose response was not taken yet."""
        return RING_SLOTS - self._room()

    def push_request(self, request: bytes) -> bool:
        """Copy a 64-byte request into the next slot and publish it; return whether the backend must be notified.

        A write fence stands before the index, a full fence after it. Raises Misuse when the ring is full.
        """
        if len(request) != SLOT_SIZE_BYTES:
            raise Misuse(f"a request is {SLOT_SIZE_BYTES} bytes, not {len(request)}")
        if not self.free_requests:  # E-INFLIGHT
            raise Misuse(f"all {RING_SLOTS} slots of the commands ring hold requests not answered yet")
        return self._push(request)  # RING-12

    def take_response(self) -> bytes | None:
        """Return a private copy of the next response, 24 bytes, or None where there is none yet.

        Raises PeerViolation where rsp_prod claims more responses than there are requests outstanding.
        """
        return self._take(RESPONSE_SIZE_BYTES)

    def final_check(self) -> bool:
        """Ask to be notified of the next response; return True where one is there already: take it, don't sleep.

        Raises PeerViolation as :meth:`take_response`.
        """
        return self._final_check()

    def _room(self) -> int:
        return (self._produced - self._consumed) & _INDEX_MASK


class BackRing(_RingEnd):
    """The backend's end: takes requests, pushes responses. It never initialises the page.

    ``page`` is the mapped page, ``peer`` the frontend's domid for error messages; ``start_index`` as in
    :class:`FrontRing`.
    """

    __slots__ = ()
    _own_producer, _own_event = _RSP_PROD, _REQ_EVENT
    _peer_producer, _peer_event = _REQ_PROD, _RSP_EVENT
    _requirement, _field = "SEC-B-1", "req_prod"

    @property
    def owed(self) -> int:
        """How many requests were taken and not answered yet: never more than 32."""
        return (self._consumed - self._produced) & _INDEX_MASK  # SEC-B-4

    def take_request(self) -> bytes | None:
        """Return a private copy of the next request, 64 bytes, or None where there is none.

        A frontend that pushes as fast as it is answered never gets a None: bound the loop.
        Raises PeerViolation where req_prod claims more requests than there are slots not owed a response.
        """
        return self._take(SLOT_SIZE_BYTES)

    def final_check(self) -> bool:
        """Ask to be notified of the next request; return True where one is there already: take it, don't sleep.

        Raises PeerViolation as :meth:`take_request`.
        """
        return self._final_check()

    def push_response(self, response: bytes) -> bool:
        """Copy a 24-byte response into the next slot and publish it; return whether the frontend must be notified.

        Writes every byte of the response, and no other byte of the slot. A write fence stands before the index, a
        full fence after it. Raises Misuse where no response is owed.
        """
        if len(response) != RESPONSE_SIZE_BYTES:
            raise Misuse(f"a response is {RESPONSE_SIZE_BYTES} bytes, not {len(response)}")  # SEC-B-5
        if not self.owed:
            raise Misuse("there is one response a request, and all of them were given")  # SEC-B-4
        return self._push(response)  # RING-13, RING-18

    def _room(self) -> int:
        return RING_SLOTS - self.owed
