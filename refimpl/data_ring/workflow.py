"""Section *Workflow*: how bytes get into a byte ring and out of it.

    producer                                    consumer
    writable()  read cons, full fence           readable()  read prod, read fence
    ...copy into the views...                   ...copy out of, or send from, the views...
    produced(n) write fence, store prod,        consumed(n) full fence, store cons, full fence,
                full fence, read cons:                      read prod:
                notify if it was empty                      notify if it was full

The backend produces ``in`` and consumes ``out``, the frontend the reverse; both with these two classes.

Indexes run freely modulo 2**32 and are masked only to make slices. Each end keeps its own index privately and only
stores it; the other's is read once and believed only while 0 <= prod - cons <= size, so that no slice ever leaves the
array whatever the peer writes.

**Before it sleeps** a consumer must have had ``()`` from :meth:`Consumer.readable`, and a producer ``()`` from
:meth:`Producer.writable`, since it last moved its own index; a consumer that stops for another reason while bytes are
there (the socket takes no more) calls :meth:`Consumer.publish` first. Then no wake-up is lost:

- The consumer's index is published lazily: when the ring is empty as far as it knows, when a quarter of the ring is
  unpublished, and by ``publish()``. So a consumer that sleeps has published everything it took.
- A producer that stored prod and then reads a cons other than its old prod need not notify: the consumer had bytes
  left when it stored that cons, and looks again, behind a full fence, before it sleeps.
- A producer that finds the ring full measures it by the last *published* cons, and that is what the consumer compares
  with: prod - old cons == size, read behind a full fence after the new cons was stored.

One thread at a time uses an end. Views handed out are the caller's to let go of before :meth:`release`.

Spec: Indexes Page and Data ring > Workflow.
"""

from __future__ import annotations

from refimpl.data_ring.indexes_page import IndexesPage
from refimpl.data_ring.notification import INDEX_MASK, NotifyConsumer
from refimpl.data_ring.structure import split
from refimpl.errors import Misuse, PeerViolation
from refimpl.platform import Fences

#: Whatever is no larger is moved in one piece: see :attr:`Producer.piece`.
SMALLEST_PIECE = 64 << 10

#: What :meth:`Producer.write` takes: bytes, or a view of bytes (format ``"B"``).
Octets = bytes | bytearray | memoryview


class _End:
    """What both ends are given, and keep."""

    __slots__ = (
        "_array",
        "_cons_word",
        "_full_fence",
        "_mask",
        "_name",
        "_peer",
        "_prod_word",
        "_size",
        "_words",
    )

    def __init__(
        self,
        array: memoryview,
        words: memoryview,
        prod_word: int,
        cons_word: int,
        fences: Fences,
        peer: int | None,
        name: str,
    ) -> None:
        self._size = len(array)
        self._mask = self._size - 1
        if self._size < 1 or self._size & self._mask:  # IDXPAGE-7
            raise Misuse(f"the size of an array is a power of two, not {self._size}")
        self._words, self._prod_word, self._cons_word = words, prod_word, cons_word
        self._full_fence = fences.full
        self._peer, self._name = peer, name

    def _attach(self, array: memoryview) -> tuple[int, int]:
        """Return prod and cons as the page has them, each read once, and take a view of the array."""
        prod, cons = self._words[self._prod_word], self._words[self._cons_word]
        if (prod - cons) & INDEX_MASK > self._size:  # WORKFLOW-2 (E-IDXINIT)
            allowed = f"{self._name}_cons {cons} and at most {self._size} more"
            raise PeerViolation("WORKFLOW-2", f"{self._name}_prod", prod, allowed, self._peer)
        self._array = array[:]
        return prod, cons

    @property
    def size(self) -> int:
        """The array's size in bytes."""
        return self._size

    @property
    def piece(self) -> int:
        """How many bytes to move, of more, before the index is stored: the other end works on them meanwhile.

        A quarter of the array, but a smaller piece is not worth another index and perhaps another event.
        """
        return max(self._size // 4, SMALLEST_PIECE)

    def release(self) -> None:
        """Let go of the array; a second call does nothing. Publishes nothing; the words stay their owner's."""
        self._array.release()


class Producer(_End):
    """The end that fills an array.

    ``array`` is its memory, of a power-of-two size; ``words`` are the indexes page's, ``prod_word`` and ``cons_word``
    the numbers of the two indexes in it. The indexes start where the page says (erratum E-IDXINIT). ``name`` (``"in"``
    or ``"out"``) and ``peer`` are for error messages. Raises PeerViolation where the page's indexes are impossible.
    """

    __slots__ = ("_free", "_prod", "_write_fence")

    def __init__(
        self,
        array: memoryview,
        words: memoryview,
        prod_word: int,
        cons_word: int,
        fences: Fences,
        peer: int | None = None,
        *,
        name: str = "in",
    ) -> None:
        super().__init__(array, words, prod_word, cons_word, fences, peer, name)
        self._write_fence = fences.write
        self._prod, _ = self._attach(array)  # SEC-B-11, SEC-F-5 (E-OWNIDX)
        # What writable() gave and produced() has not used.
        self._free = 0

    def writable(self) -> tuple[memoryview, ...]:
        """Return the free space as 0, 1 or 2 views, in order, and move nothing.

        Reads the consumer's index, then a full fence. Raises PeerViolation.
        """
        free = self._look()
        if not free:
            return ()
        start = self._prod & self._mask  # WORKFLOW-1, WORKFLOW-6, IDX-7
        end = start + free
        if end <= self._size:
            return (self._array[start:end],)
        return self._array[start:], self._array[: end - self._size]

    def produced(self, count: int) -> bool:
        """Publish ``count`` bytes written to what :meth:`writable` gave; return whether to notify the consumer.

        A write fence before prod is stored, a full fence after it. Raises Misuse for more than was free.
        """
        if not 0 < count <= self._free:  # WORKFLOW-13
            if count:
                raise Misuse(f"{count} bytes produced where {self._free} were free")
            return False
        self._free -= count
        old_prod = self._prod
        self._prod = prod = (old_prod + count) & INDEX_MASK
        self._write_fence()
        self._words[self._prod_word] = prod  # WORKFLOW-7, IDXPAGE-10, IDXPAGE-12
        self._full_fence()
        return bool(self._words[self._cons_word] == old_prod)  # WORKFLOW-8, NORING-5

    def write(self, data: Octets) -> tuple[int, bool]:
        """Copy as much of ``data`` as there is space for; return how many bytes, and whether to notify the consumer.

        One copy, one store of the index; a look at the consumer's only where it is not known that all of it fits.
        (0, False) means the ring is full. Raises PeerViolation.
        """
        count, free = len(data), self._free
        if free < count:
            free = self._look()
            if not free:
                return 0, False
        array, start = self._array, self._prod & self._mask
        if count <= free and start + count <= self._size:
            array[start : start + count] = data  # NORING-3
            return count, self.produced(count)
        count, source = min(count, free), memoryview(data)
        before_wrap = min(count, self._size - start)
        array[start : start + before_wrap] = source[:before_wrap]
        array[: count - before_wrap] = source[before_wrap:count]
        return count, self.produced(count)

    @property
    def unconsumed(self) -> int:
        """How many bytes the consumer has not taken, as far as it has published. Raises PeerViolation."""
        cons = self._words[self._cons_word]
        unconsumed: int = (self._prod - cons) & INDEX_MASK  # WORKFLOW-2 (E-IDXFREE)
        if unconsumed > self._size:
            raise self._violation(cons)
        return unconsumed

    @property
    def free(self) -> int:
        """How many bytes could be written now. Raises PeerViolation."""
        return self._size - self.unconsumed

    @property
    def is_drained(self) -> bool:
        """Whether the consumer has taken, and published, everything. Raises PeerViolation."""
        return self.unconsumed == 0

    def _look(self) -> int:
        """Read cons, once, and return how much is free; a full fence stands after it, where anything is."""
        cons = self._words[self._cons_word]  # WORKFLOW-3
        self._free = free = self._size - ((self._prod - cons) & INDEX_MASK)
        if free < 0:  # SEC-B-11, SEC-F-6 (E-IDXBAD)
            self._free = 0
            raise self._violation(cons)
        if free:
            self._full_fence()  # WORKFLOW-4
        return free

    def _violation(self, cons: int) -> PeerViolation:
        allowed = f"at most {self._size} before {self._name}_prod {self._prod}, and not after it"
        return PeerViolation("WORKFLOW-14", f"{self._name}_cons", cons, allowed, self._peer)


class Consumer(_End):
    """The end that empties an array.

    Parameters as :class:`Producer`; ``notify_consumer`` says when the producer is told of the bytes taken.
    """

    __slots__ = ("_always", "_cons", "_lazy", "_prod", "_published", "_read_fence")

    def __init__(
        self,
        array: memoryview,
        words: memoryview,
        prod_word: int,
        cons_word: int,
        fences: Fences,
        peer: int | None = None,
        *,
        notify_consumer: NotifyConsumer = NotifyConsumer.FULL_ONLY,
        name: str = "in",
    ) -> None:
        super().__init__(array, words, prod_word, cons_word, fences, peer, name)
        self._read_fence = fences.read
        self._always = notify_consumer is NotifyConsumer.ALWAYS
        self._lazy = self._size // 4
        # How far the producer was when last looked at, what was taken, and what of that the producer knows. What was
        # seen of prod here is not kept: no read fence stands after it.
        _, self._cons = self._attach(array)  # SEC-B-11, SEC-F-5 (E-OWNIDX)
        self._prod = self._published = self._cons

    def readable(self) -> tuple[memoryview, ...]:
        """Return the bytes not taken yet as 0, 1 or 2 views, in order, and move nothing.

        Reads the producer's index, then a read fence. The peer can still change the bytes. Raises PeerViolation.
        """
        available = self._look()
        if not available:
            return ()
        start = self._cons & self._mask  # WORKFLOW-1, WORKFLOW-11, IDX-7
        end = start + available
        if end <= self._size:
            return (self._array[start:end],)
        return self._array[start:], self._array[: end - self._size]

    def consumed(self, count: int) -> bool:
        """Give up ``count`` bytes of what :meth:`readable` gave; return whether to notify the producer.

        Publishes cons when the ring is empty or a quarter of it is unpublished, with the fences of :meth:`publish`;
        until then the producer does not know. Raises Misuse for more than there was.
        """
        cons, prod = self._cons, self._prod
        if not 0 <= count <= (prod - cons) & INDEX_MASK:  # WORKFLOW-14
            raise Misuse(f"{count} bytes consumed where {(prod - cons) & INDEX_MASK} were there")
        self._cons = cons = (cons + count) & INDEX_MASK
        if cons != prod and (cons - self._published) & INDEX_MASK < self._lazy:
            return False
        return self.publish()

    def publish(self) -> bool:
        """Publish all that was taken, before waiting or releasing; return whether to notify the producer.

        A full fence before cons is stored, so that nothing of the space is read any more, and one after it.
        """
        cons, old_cons = self._cons, self._published
        if cons == old_cons:
            return False
        self._published = cons
        self._full_fence()
        self._words[self._cons_word] = cons  # WORKFLOW-11, IDXPAGE-11, IDXPAGE-13
        self._full_fence()
        if self._always:
            return True  # WORKFLOW-12
        return bool((self._words[self._prod_word] - old_cons) & INDEX_MASK == self._size)  # NORING-4 (E-CONSNOTIFY)

    def read_into(self, buffer: bytearray | memoryview) -> tuple[int, bool]:
        """Copy as much as there is, and as fits, into ``buffer``; return how many bytes, and whether to notify.

        One copy; a look at the producer's index only where it is not known that there is as much. (0, False) means the
        ring is empty. Raises PeerViolation.
        """
        count, available = len(buffer), (self._prod - self._cons) & INDEX_MASK
        if available < count:
            available = self._look()
            if not available:
                return 0, False
        array, start = self._array, self._cons & self._mask
        if count <= available and start + count <= self._size:
            buffer[:] = array[start : start + count]
            return count, self.consumed(count)
        count = min(count, available)
        before_wrap = min(count, self._size - start)
        buffer[:before_wrap] = array[start : start + before_wrap]
        buffer[before_wrap:count] = array[: count - before_wrap]
        return count, self.consumed(count)

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Copy out at most ``limit`` bytes; return them, and whether to notify. Empty means the ring is empty.

        Looks at the producer's index as :meth:`read_into`. Raises PeerViolation.
        """
        if limit < 0:
            raise Misuse(f"a limit of {limit} bytes")
        available = (self._prod - self._cons) & INDEX_MASK
        if available < limit:
            available = self._look()
            if not available:
                return b"", False
        array, start, count = self._array, self._cons & self._mask, min(limit, available)
        end = start + count
        if end > self._size:
            return b"".join((array[start:], array[: end - self._size])), self.consumed(count)
        return array[start:end].tobytes(), self.consumed(count)  # SEC-F-7

    @property
    def available(self) -> int:
        """How many bytes there are to take now. Raises PeerViolation."""
        prod = self._words[self._prod_word]
        available: int = (prod - self._cons) & INDEX_MASK  # WORKFLOW-2 (E-IDXFREE)
        if available > self._size:
            raise self._violation(prod)
        return available

    def _look(self) -> int:
        """Read prod, once, and return how much is there; a read fence stands after it, where anything is."""
        prod = self._words[self._prod_word]  # WORKFLOW-9
        available = (prod - self._cons) & INDEX_MASK
        if available > self._size:  # SEC-B-11, SEC-F-6 (E-IDXBAD)
            raise self._violation(prod)
        self._prod = prod
        if available:
            self._read_fence()  # WORKFLOW-9
        return available

    def _violation(self, prod: int) -> PeerViolation:
        allowed = f"{self._name}_cons {self._cons} and at most {self._size} more"
        return PeerViolation("WORKFLOW-13", f"{self._name}_prod", prod, allowed, self._peer)


def frontend_ends(
    page: IndexesPage,
    ring_memory: memoryview,
    fences: Fences,
    peer: int | None = None,
    *,
    notify_consumer: NotifyConsumer = NotifyConsumer.FULL_ONLY,
) -> tuple[Consumer, Producer]:
    """Return the frontend's two ends: the consumer of ``in`` and the producer of ``out``. Raises PeerViolation."""
    at, words, rule = page.layout, page.words, notify_consumer
    in_array, out_array = split(ring_memory)
    with in_array, out_array:
        in_place = (in_array, words, at.in_prod, at.in_cons, fences, peer)
        out_place = (out_array, words, at.out_prod, at.out_cons, fences, peer)
        consumer = Consumer(*in_place, notify_consumer=rule, name="in")  # IDXPAGE-8, NORING-2
        try:
            return consumer, Producer(*out_place, name="out")  # IDXPAGE-9, NORING-2
        except PeerViolation:
            consumer.release()
            raise


def backend_ends(
    page: IndexesPage,
    ring_memory: memoryview,
    fences: Fences,
    peer: int | None = None,
    *,
    notify_consumer: NotifyConsumer = NotifyConsumer.FULL_ONLY,
) -> tuple[Producer, Consumer]:
    """Return the backend's two ends: the producer of ``in`` and the consumer of ``out``. Raises PeerViolation."""
    at, words, rule = page.layout, page.words, notify_consumer
    in_array, out_array = split(ring_memory)
    with in_array, out_array:
        in_place = (in_array, words, at.in_prod, at.in_cons, fences, peer)
        out_place = (out_array, words, at.out_prod, at.out_cons, fences, peer)
        producer = Producer(*in_place, name="in")  # IDXPAGE-8, NORING-2
        try:
            return producer, Consumer(*out_place, notify_consumer=rule, name="out")  # IDXPAGE-9, NORING-2
        except PeerViolation:
            producer.release()
            raise
