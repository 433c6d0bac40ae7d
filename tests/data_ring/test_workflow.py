"""Producer and consumer against a plain queue and the C header's arithmetic. Peers that lie: tests/hostile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refimpl.data_ring.notification import NotifyConsumer, consumer_must_notify, producer_must_notify
from refimpl.data_ring.workflow import Consumer, Producer
from refimpl.errors import Misuse
from refimpl.fence import fences

PROD, CONS = 0, 1
#: Where free-running indexes go wrong, if they do.
EDGES = (0, 1, 2**31 - 9, 2**31 - 1, 2**31, 2**32 - 9, 2**32 - 1)
INDEX = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**32 - 1))
SIZE = st.sampled_from([1, 2, 4, 8, 16, 64])


class Ends(NamedTuple):
    array: memoryview
    words: memoryview
    producer: Producer
    consumer: Consumer


def make_ends(size: int, start: int = 0, rule: NotifyConsumer = NotifyConsumer.FULL_ONLY) -> Ends:
    array, words = memoryview(bytearray(size)), memoryview(bytearray(8)).cast("I")
    words[PROD] = words[CONS] = start
    producer = Producer(array, words, PROD, CONS, fences(), peer=5, name="out")
    consumer = Consumer(array, words, PROD, CONS, fences(), peer=7, notify_consumer=rule, name="out")
    return Ends(array, words, producer, consumer)


def octets() -> Iterator[int]:
    """Bytes that do not repeat in step with any power of two."""
    value = 0
    while True:
        value = (value * 5 + 17) % 251
        yield value


def fill(views: tuple[memoryview, ...], data: bytes) -> None:
    for view in views:
        part, data = data[: len(view)], data[len(view) :]
        view[: len(part)] = part


def joined(views: tuple[memoryview, ...]) -> bytes:
    return b"".join(views)


# ------------------------------------------------------------------------------------------------ as a plain queue

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["views", "write", "take", "read", "read_into", "publish"]), st.integers(0, 70)),
    max_size=120,
)


class Carried:
    """Does each operation on the ring and on a plain bytearray, and compares."""

    def __init__(self, size: int, start: int, rule: NotifyConsumer) -> None:
        self.ends = make_ends(size, start, rule)
        self.size, self.rule = size, rule
        self.waiting = bytearray()  # written, not taken
        self.unpublished = 0  # taken, but the producer does not know
        self.source = octets()
        self.ended = start

    def free(self) -> int:
        return self.size - len(self.waiting) - self.unpublished

    def views(self, count: int) -> None:
        views = self.ends.producer.writable()
        assert sum(map(len, views)) == self.free()
        assert len(views) <= 2 and all(map(len, views))
        data = self._data(min(count, self.free()))
        fill(views, data)
        self._produced(data, self.ends.producer.produced(len(data)))

    def write(self, count: int) -> None:
        data = self._data(count)
        taken, notify = self.ends.producer.write(data)
        assert taken == min(count, self.free())
        self._produced(data[:taken], notify)

    def take(self, count: int) -> None:
        views = self.ends.consumer.readable()
        assert joined(views) == self.waiting
        assert len(views) <= 2 and all(map(len, views))
        count = min(count, len(self.waiting))
        self._consumed(count, self.ends.consumer.consumed(count))

    def read(self, count: int) -> None:
        data, notify = self.ends.consumer.read(count)
        assert data == self.waiting[:count]
        self._consumed(len(data), notify)

    def read_into(self, count: int) -> None:
        buffer = bytearray(b"\xee" * count)
        taken, notify = self.ends.consumer.read_into(buffer)
        assert bytes(buffer) == (self.waiting[:taken] + b"\xee" * count)[:count]
        assert taken == min(count, len(self.waiting))
        self._consumed(taken, notify)

    def publish(self, count: int) -> None:
        self.ends.consumer.publish()
        self.unpublished = 0

    def _data(self, count: int) -> bytes:
        return bytes(next(self.source) for _ in range(count))

    def _produced(self, data: bytes, notify: bool) -> None:
        was_empty = not self.waiting and not self.unpublished
        self.waiting += data
        self.ended = (self.ended + len(data)) % 2**32
        assert notify == (bool(data) and was_empty)

    def _consumed(self, count: int, notify: bool) -> None:
        was_full = not self.free()
        del self.waiting[:count]
        self.unpublished += count
        published = not self.waiting or self.unpublished >= self.size // 4
        if published and self.unpublished:
            assert notify == (self.rule is NotifyConsumer.ALWAYS or was_full)
            self.unpublished = 0
        else:
            assert not notify

    def check(self) -> None:
        words, producer, consumer = self.ends.words, self.ends.producer, self.ends.consumer
        assert words[PROD] == self.ended
        assert words[CONS] == (self.ended - len(self.waiting) - self.unpublished) % 2**32
        assert (consumer.available, producer.free) == (len(self.waiting), self.free())
        assert producer.unconsumed == len(self.waiting) + self.unpublished
        assert producer.is_drained == (producer.unconsumed == 0)


@pytest.mark.spec("WORKFLOW-1", "WORKFLOW-2", "WORKFLOW-6", "WORKFLOW-11")
@pytest.mark.erratum("E-IDXFREE", "E-CONSNOTIFY")
@given(SIZE, INDEX, st.sampled_from(NotifyConsumer), OPERATIONS)
@example(8, 2**32 - 1, NotifyConsumer.FULL_ONLY, [("write", 8), ("take", 1), ("take", 1), ("write", 3), ("read", 70)])
def test_ring_carries_what_a_queue_carries(
    size: int, start: int, rule: NotifyConsumer, operations: list[tuple[str, int]]
) -> None:
    carried = Carried(size, start, rule)
    for name, count in operations:
        getattr(carried, name)(count)
        carried.check()


@pytest.mark.spec("WORKFLOW-2")
@pytest.mark.erratum("E-IDXFREE")
def test_unconsumed_bytes_are_counted_as_the_header_does(
    c_program: Callable[[str], Callable[[str], str]],
) -> None:
    run = c_program(
        'int main(void) { unsigned p, c, s; while (scanf("%u %u %u", &p, &c, &s) == 3)'
        ' printf("%u\\n", pvcalls_queued(p, c, s)); return 0; }'
    )
    cases = [
        ((cons + used) % 2**32, cons, size)
        for size in (1, 8, 4096, 1 << 20)
        for cons in (*EDGES, 12345)
        for used in sorted({0, 1, size // 2, size - 1, size})
    ]
    expected = [int(line) for line in run("\n".join(" ".join(map(str, case)) for case in cases)).split()]
    for (prod, cons, size), queued in zip(cases, expected, strict=True):
        array, words = memoryview(bytearray(size)), memoryview(bytearray(8)).cast("I")
        words[PROD], words[CONS] = prod, cons
        producer = Producer(array, words, PROD, CONS, fences())
        consumer = Consumer(array, words, PROD, CONS, fences())
        assert (producer.unconsumed, consumer.available) == (queued, queued)
        assert sum(map(len, consumer.readable())) == queued
        assert sum(map(len, producer.writable())) == size - queued


@pytest.mark.spec("WORKFLOW-1", "WORKFLOW-6", "WORKFLOW-11", "IDX-7")
@pytest.mark.parametrize("start", [5, 2**32 - 3])
def test_views_wrap_at_the_end_of_the_array(start: int) -> None:
    array, _, producer, consumer = make_ends(8, start)
    first, second = producer.writable()
    assert (len(first), len(second)) == (3, 5)
    fill((first, second), b"abcdef")
    producer.produced(6)
    assert bytes(array) == b"def\0\0abc"
    assert [bytes(view) for view in consumer.readable()] == [b"abc", b"def"]
    assert [bytes(view) for view in consumer.readable()] == [b"abc", b"def"], "looking moves nothing"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_write_takes_any_bytes_around_the_end(kind: Callable[[bytes], bytes]) -> None:
    array, _, producer, _ = make_ends(8, 6)
    assert producer.write(kind(b"abcde")) == (5, True)
    assert producer.write(kind(b"")) == (0, False)
    assert producer.write(kind(b"fghij")) == (3, False)
    assert producer.write(kind(b"x")) == (0, False)
    assert bytes(array) == b"cdefghab"


@pytest.mark.parametrize("size", range(10))
@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
def test_reading_around_the_end_fills_a_buffer_of_any_size(
    kind: Callable[[bytes], bytearray | memoryview], size: int
) -> None:
    _, _, producer, consumer = make_ends(8, 6)
    producer.write(b"abcdefg")
    buffer = kind(b"." * size)
    assert consumer.read_into(buffer) == (min(size, 7), False)
    assert bytes(buffer) == b"abcdefg.."[:size]
    assert consumer.read(9)[0] == b"abcdefg"[size:]


# ---------------------------------------------------------------------------------------- publication, notification


@pytest.mark.erratum("E-CONSNOTIFY")
@pytest.mark.parametrize("start", EDGES)
def test_consumer_index_is_published_by_quarters_and_when_empty(start: int) -> None:
    _, words, producer, consumer = make_ends(16, start)
    producer.write(bytes(11))
    seen = []
    for _ in range(11):
        consumer.readable()
        consumer.consumed(1)
        seen.append((words[CONS] - start) % 2**32)
    assert seen == [0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 11]


@pytest.mark.erratum("E-CONSNOTIFY")
@pytest.mark.spec("NORING-4")
def test_publish_tells_once_of_what_was_held_back() -> None:
    _, words, producer, consumer = make_ends(16)
    producer.write(bytes(16))
    consumer.readable()
    assert consumer.consumed(3) is False
    assert words[CONS] == 0
    assert consumer.publish() is True, "the ring was full"
    assert words[CONS] == 3
    assert consumer.publish() is False, "nothing new"
    consumer.consumed(1)
    assert consumer.publish() is False, "the ring was not full any more"
    assert words[CONS] == 4


@pytest.mark.spec("WORKFLOW-8", "NORING-5")
@pytest.mark.parametrize("start", EDGES)
def test_producer_notifies_once_until_the_consumer_has_taken_all(start: int) -> None:
    _, _, producer, consumer = make_ends(16, start)
    assert [producer.write(b"ab") for _ in range(3)] == [(2, True), (2, False), (2, False)]
    consumer.read(4)
    assert producer.write(b"ab") == (2, False)
    consumer.read(16)
    assert producer.write(b"ab") == (2, True)


@pytest.mark.spec("WORKFLOW-12")
@pytest.mark.erratum("E-CONSNOTIFY")
def test_consumer_notifies_by_the_rule_it_was_given() -> None:
    told = {}
    for rule in NotifyConsumer:
        _, _, producer, consumer = make_ends(4, rule=rule)
        told[rule] = []
        for count in (1, 3, 4):
            producer.write(bytes(count))
            told[rule].append(consumer.read(4)[1])
    assert told == {NotifyConsumer.ALWAYS: [True, True, True], NotifyConsumer.FULL_ONLY: [False, False, True]}


@pytest.mark.spec("NORING-4", "NORING-5")
@given(SIZE, INDEX, st.integers(0, 64), st.integers(1, 64), INDEX)
def test_both_ends_keep_the_written_rules(size: int, start: int, used: int, count: int, peers: int) -> None:
    """The rules stand in the hot path once more; they must stay the ones of the notification module."""
    used, count = min(used, size), min(count, size)
    _, words, producer, _ = make_ends(size, start)
    producer.write(bytes(used))
    if used + count <= size:
        producer.writable()
        old_prod, words[CONS] = words[PROD], peers
        assert producer.produced(count) == producer_must_notify(peers, old_prod)
    _, words, producer, consumer = make_ends(size, start)
    producer.write(bytes(count))
    consumer.readable()
    words[PROD] = peers
    notify = consumer.consumed(count)
    assert words[CONS] == (start + count) % 2**32
    assert notify == consumer_must_notify(peers, start, size, NotifyConsumer.FULL_ONLY)


# --------------------------------------------------------------------------------------------------- own callers


@pytest.mark.security("SEC-F-7")
def test_what_was_read_no_longer_changes() -> None:
    array, _, producer, consumer = make_ends(8)
    producer.write(b"abcd")
    data, _ = consumer.read(4)
    array[:] = b"\xff" * 8
    assert data == b"abcd"


@pytest.mark.spec("WORKFLOW-13", "WORKFLOW-14")
def test_own_callers_cannot_move_past_what_was_given() -> None:
    _, words, producer, consumer = make_ends(16)
    with pytest.raises(Misuse, match="where 0 were free"):
        producer.produced(1)
    producer.writable()
    for count in (17, -1):
        with pytest.raises(Misuse):
            producer.produced(count)
    assert producer.produced(0) is False
    producer.produced(10)
    with pytest.raises(Misuse, match="where 6 were free"):
        producer.produced(7)
    with pytest.raises(Misuse, match="where 0 were there"):
        consumer.consumed(1)
    consumer.readable()
    for count in (11, -1):
        with pytest.raises(Misuse):
            consumer.consumed(count)
    assert consumer.consumed(0) is False
    with pytest.raises(Misuse, match="limit"):
        consumer.read(-1)
    assert (words[PROD], words[CONS]) == (10, 0)


@pytest.mark.spec("NORING-3")
def test_a_producer_never_reads_the_array() -> None:
    written = bytearray(8)

    class WriteOnly:
        def __len__(self) -> int:
            return len(written)

        def __getitem__(self, part: slice) -> WriteOnly:
            assert part == slice(None), "the producer read"
            return self  # A view of all of it.

        def __setitem__(self, part: slice, data: bytes) -> None:
            written[part] = data

    words = memoryview(bytearray(8)).cast("I")
    producer = Producer(WriteOnly(), words, PROD, CONS, fences())  # type: ignore[arg-type]
    assert producer.write(b"abc") == (3, True)
    assert written == b"abc" + bytes(5)
    assert producer.write(b"defghijkl") == (5, False)
    assert written == b"abcdefgh"


@pytest.mark.spec("IDXPAGE-7")
@pytest.mark.parametrize("size", [0, 3, 6, 4095])
def test_arrays_have_a_power_of_two(size: int) -> None:
    words = memoryview(bytearray(8)).cast("I")
    for end in (Producer, Consumer):
        with pytest.raises(Misuse, match="power of two"):
            end(memoryview(bytearray(size)), words, PROD, CONS, fences())


def test_ends_tell_their_size() -> None:
    _, _, producer, consumer = make_ends(16)
    assert (producer.size, consumer.size) == (16, 16)


@pytest.mark.parametrize(("size", "piece"), [(4096, 65536), (32768, 65536), (1 << 18, 65536), (1 << 20, 1 << 18)])
def test_a_piece_is_a_quarter_of_a_large_array(size: int, piece: int) -> None:
    ends = make_ends(size)
    assert ends.producer.piece == ends.consumer.piece == piece
