"""Data rings whose other end writes any index at any step: no slice leaves the array, nothing moves for a liar."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.data_ring.workflow import Consumer, Producer
from refimpl.errors import Misuse, PeerViolation
from refimpl.fence import fences

PROD, CONS = 0, 1
#: Where free-running indexes go wrong, if they do.
EDGES = (0, 1, 2**31 - 9, 2**31 - 1, 2**31, 2**32 - 9, 2**32 - 1)
INDEX = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**32 - 1))
SIZE = st.sampled_from([1, 2, 4, 8, 16, 64])


class Ends(NamedTuple):
    words: memoryview
    producer: Producer
    consumer: Consumer


def make_ends(size: int, start: int = 0) -> Ends:
    array, words = memoryview(bytearray(size)), memoryview(bytearray(8)).cast("I")
    words[PROD] = words[CONS] = start
    producer = Producer(array, words, PROD, CONS, fences(), peer=5, name="out")
    return Ends(words, producer, Consumer(array, words, PROD, CONS, fences(), peer=7, name="out"))


class LyingWords:
    """Words of which the peer's gives another value each time it is read."""

    def __init__(self, start: int, lying: int, lies: list[int]) -> None:
        self.values = [start, start]
        self._lying, self._lies = lying, lies

    def __getitem__(self, number: int) -> int:
        if number == self._lying and self._lies:
            return self._lies.pop(0)
        return self.values[number]

    def __setitem__(self, number: int, value: int) -> None:
        assert number != self._lying, "an end wrote its peer's index"
        assert 0 <= value < 2**32
        self.values[number] = value


@st.composite
def lies_near(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A start index, and values around it, around its end, and anywhere."""
    start = draw(INDEX)
    near = st.integers(-20, 40).map(lambda offset: (start + offset) % 2**32)
    return start, draw(st.lists(st.one_of(near, INDEX), min_size=1, max_size=40))


@pytest.mark.security("SEC-B-11", "SEC-F-6")
@pytest.mark.erratum("E-IDXBAD")
@given(SIZE, lies_near(), st.integers(0, 70))
def test_no_cons_makes_a_producer_leave_its_array(size: int, case: tuple[int, list[int]], count: int) -> None:
    start, lies = case
    array = memoryview(bytearray(size + 16))
    words = LyingWords(start, CONS, [start, *lies])
    producer = Producer(array[8 : 8 + size], words, PROD, CONS, fences())  # type: ignore[arg-type]
    steps = (
        producer.writable,
        lambda: producer.write(b"\xff" * count),
        lambda: producer.unconsumed,
        lambda: producer.is_drained,
    )
    for number in range(2 * len(lies)):
        before = words.values[PROD]
        try:
            result = steps[number % len(steps)]()
        except PeerViolation as violation:
            assert violation.field == "in_cons"
            assert words.values[PROD] == before, "nothing moves for a liar"
            continue
        if isinstance(result, tuple) and result and isinstance(result[0], memoryview):
            assert len(result) <= 2 and sum(map(len, result)) <= size
            for view in result:
                view[:] = b"\xff" * len(view)
            producer.produced(min(count, sum(map(len, result))))
    assert bytes(array[:8]) + bytes(array[8 + size :]) == bytes(16)


@pytest.mark.security("SEC-B-11", "SEC-F-6")
@pytest.mark.erratum("E-IDXBAD")
@given(SIZE, lies_near(), st.integers(0, 70))
def test_no_prod_makes_a_consumer_leave_its_array(size: int, case: tuple[int, list[int]], count: int) -> None:
    start, lies = case
    array = memoryview(bytearray(b"\xee" * 8 + bytes(size) + b"\xee" * 8))
    words = LyingWords(start, PROD, [start, *lies])
    consumer = Consumer(array[8 : 8 + size], words, PROD, CONS, fences())  # type: ignore[arg-type]
    steps = (
        lambda: b"".join(consumer.readable()),
        lambda: consumer.read(count)[0],
        lambda: consumer.read_into(bytearray(count)),
        lambda: consumer.available,
        consumer.publish,
    )
    for number in range(2 * len(lies)):
        before = words.values[CONS]
        try:
            result = steps[number % len(steps)]()
        except PeerViolation as violation:
            assert violation.field == "in_prod"
            assert words.values[CONS] == before, "nothing moves for a liar"
            continue
        if isinstance(result, bytes):
            assert len(result) <= size
            assert not result.strip(b"\0"), "bytes from outside the array"


@pytest.mark.security("SEC-B-11", "SEC-F-6")
@pytest.mark.erratum("E-IDXBAD")
@pytest.mark.parametrize("start", EDGES)
def test_impossible_indexes_are_named(start: int) -> None:
    words, producer, consumer = make_ends(16, start)
    for behind in (17, 2**31, 2**32 - 1):
        words[CONS] = lie = (start - behind) % 2**32
        for look in (producer.writable, lambda: producer.write(b"x"), lambda: producer.free):
            with pytest.raises(PeerViolation) as caught:
                look()
            assert (caught.value.requirement, caught.value.field) == ("WORKFLOW-14", "out_cons")
            assert (caught.value.value, caught.value.peer) == (lie, 5)
        with pytest.raises(Misuse, match="0 were free"):
            producer.produced(1)
    words[CONS] = start
    for ahead in (17, 2**31, 2**32 - 1):
        words[PROD] = lie = (start + ahead) % 2**32
        for look in (consumer.readable, lambda: consumer.read(1), lambda: consumer.available):
            with pytest.raises(PeerViolation) as caught:
                look()
            assert (caught.value.requirement, caught.value.field) == ("WORKFLOW-13", "out_prod")
            assert (caught.value.value, caught.value.peer) == (lie, 7)


@pytest.mark.security("SEC-B-3", "SEC-F-5")
@pytest.mark.erratum("E-OWNIDX")
def test_an_ends_own_index_is_never_believed() -> None:
    words, producer, consumer = make_ends(16)
    producer.write(b"ab")
    words[PROD] = 1000
    assert producer.unconsumed == 2
    producer.write(b"cd")
    assert words[PROD] == 4
    assert consumer.read(2)[0] == b"ab"
    words[CONS] = 3000
    assert consumer.read(2)[0] == b"cd"
    assert words[CONS] == 4
