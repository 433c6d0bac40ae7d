"""Every order in which both ends of a data ring can act, on processors that reorder as real ones do.

The code under test is the real one. Its fences are then weakened one by one: each must be missed by some order, else
either the fence or these tests would be idle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from refimpl.data_ring import workflow as workflow_module
from refimpl.data_ring.notification import NotifyConsumer
from refimpl.data_ring.workflow import Consumer, Producer
from refimpl.testing.fence_calls import WEAKER, FenceCall, fence_calls
from refimpl.testing.memory_models import StoreBuffers, Views
from refimpl.testing.memory_order import Memory, Model, Outcome, explore
from refimpl.testing.simulated_processor import Behaviour, Point, Processor, SimulatedArray

MODELS: tuple[Callable[[], Model], ...] = (StoreBuffers, Views)
PROD, CONS = 0, 1
PRODUCER, CONSUMER = 0, 1


def test_the_fences_are_found() -> None:
    kinds = [call.kind for call in fence_calls(workflow_module.__file__)]
    assert sorted(kinds) == ["full", "full", "full", "full", "read", "write"]


def able_to_show(fence: FenceCall) -> tuple[Callable[[], Model], ...]:
    """Return the models in which the fence does anything: on x86 only full ones do."""
    return MODELS if fence.kind == "full" else (Views,)


def octets(index: int, count: int) -> bytes:
    """What stands at free-running indexes: another value each time round the array."""
    return bytes((index + offset) & 0xFF for offset in range(count))


def produce_views(producer: Producer, index: int, chunk: int) -> tuple[int, bool]:
    count = 0
    for view in producer.writable():
        part = view[: chunk - count]
        part[:] = octets(index + count, len(part))
        count += len(part)
    return count, producer.produced(count)


def produce_write(producer: Producer, index: int, chunk: int) -> tuple[int, bool]:
    return producer.write(octets(index, chunk))


def consume_views(consumer: Consumer, index: int, chunk: int) -> tuple[int, bool]:
    count = 0
    for view in consumer.readable():
        part = view[: chunk - count]
        part.expect(octets(index + count, len(part)))  # type: ignore[attr-defined]
        count += len(part)
    return count, bool(count) and consumer.consumed(count)


class ExpectingBuffer:
    """Where bytes are copied to: compares them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __setitem__(self, part: slice, piece: SimulatedArray) -> None:
        piece.expect(self._data[part])


def consume_read_into(consumer: Consumer, index: int, chunk: int) -> tuple[int, bool]:
    return consumer.read_into(ExpectingBuffer(octets(index, chunk)))  # type: ignore[arg-type]


class Stream(NamedTuple):
    """A producer and a consumer that carry ``total`` bytes through an array of ``size``."""

    size: int
    total: int
    produce_chunk: int
    consume_chunk: int
    start: int
    produce: Callable[[Producer, int, int], tuple[int, bool]] = produce_views
    consume: Callable[[Consumer, int, int], tuple[int, bool]] = consume_views

    def memory(self) -> Memory:
        stale: dict[tuple[str, int], int | bytes] = {("byte", place): 999 for place in range(self.size)}
        return {("word", PROD): self.start, ("word", CONS): self.start, **stale}

    def producer(self, processor: Processor) -> None:
        ring = Producer(processor.array(self.size), processor.words, PROD, CONS, processor.fences)  # type: ignore[arg-type]
        sent = 0
        while sent < self.total:
            processor.settled(sent, ring)
            chunk = min(self.produce_chunk, self.total - sent)
            count, notify = self.produce(ring, self.start + sent, chunk)
            sent += count
            if notify:
                processor.notify("consumer")
            if not count:
                processor.wait("producer")

    def consumer(self, rule: NotifyConsumer) -> Behaviour:
        def run(processor: Processor) -> None:
            memory, words = processor.array(self.size), processor.words
            ring = Consumer(memory, words, PROD, CONS, processor.fences, notify_consumer=rule)  # type: ignore[arg-type]
            taken = 0
            while taken < self.total:
                processor.settled(taken, ring)
                chunk = min(self.consume_chunk, self.total - taken)
                count, notify = self.consume(ring, self.start + taken, chunk)
                taken += count
                if notify:
                    processor.notify("producer")
                if not count:
                    processor.wait("consumer")

        return run

    def explore(self, model: Model, rule: NotifyConsumer, fence: FenceCall | None = None, left: str = "") -> Outcome:
        weak = {} if fence is None else fence.weakened_to(left)
        return explore(model, [self.producer, self.consumer(rule)], self.memory(), [weak, weak])


STREAMS = {
    "consumer-sleeps": Stream(2, 3, 1, 1, 2**32 - 1),
    "producer-sleeps": Stream(2, 4, 2, 1, 2**31 - 1),
    "around-the-end": Stream(4, 6, 3, 2, 2**32 - 3, produce_write, consume_read_into),
    "published-late": Stream(8, 10, 8, 1, 2**32 - 4),
    "both-sleep": Stream(2, 5, 1, 1, 2**31 - 2),
    "late-and-full": Stream(8, 14, 8, 3, 5),
    "whole-ring-each-time": Stream(2, 6, 2, 2, 0, produce_write, consume_read_into),
}


@pytest.mark.spec("WORKFLOW-7", "WORKFLOW-9", "WORKFLOW-11", "NORING-5")
@pytest.mark.erratum("E-CONSNOTIFY")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rule", NotifyConsumer)
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_every_byte_arrives_and_nobody_sleeps_for_ever(
    stream: Stream, rule: NotifyConsumer, model: Callable[[], Model]
) -> None:
    outcome = stream.explore(model(), rule)
    assert not outcome.failure, "\n".join((outcome.failure, *outcome.schedule))
    assert outcome.states > 100, "nothing was interleaved"


@pytest.mark.spec("WORKFLOW-7", "WORKFLOW-9", "WORKFLOW-11", "NORING-5")
@pytest.mark.parametrize(
    ("fence", "left"),
    [
        pytest.param(fence, left, id=f"{fence}-becomes-{left}")
        for fence in fence_calls(workflow_module.__file__)
        for left in WEAKER[fence.kind]
        if (fence.function, fence.kind) != ("_look", "full")  # the next test's
    ],
)
def test_no_fence_of_a_data_ring_can_be_weaker(fence: FenceCall, left: str) -> None:
    failures = (
        stream.explore(model(), NotifyConsumer.FULL_ONLY, fence, left).failure
        for model in able_to_show(fence)
        for stream in STREAMS.values()
    )
    assert any(failures), "no order of events shows that the fence is needed"


@pytest.mark.spec("WORKFLOW-3", "WORKFLOW-4", "WORKFLOW-6", "WORKFLOW-7")
def test_a_producer_keeps_the_documents_order() -> None:
    """Between reading cons and touching data no order can show the barrier: a store never passes the load that decided
    about it. The document wants one, and another language's compiler may need it; so its place is looked at.
    """
    stream = Stream(4, 2, 2, 2, 7)
    assert accesses(stream.producer, [7, 7, 7]) == [
        f"Load(location=('word', {PROD}))",
        f"Load(location=('word', {CONS}))",
        f"Load(location=('word', {CONS}))",
        "Fence(kind='full')",
        "Store(location=('byte', 3), value=7)",
        "Store(location=('byte', 0), value=8)",
        "Fence(kind='write')",
        f"Store(location=('word', {PROD}), value=9)",
        "Fence(kind='full')",
        f"Load(location=('word', {CONS}))",
        "Notify(channel='consumer')",
        "End(error='')",
    ]


@pytest.mark.spec("WORKFLOW-9", "WORKFLOW-11", "WORKFLOW-12")
def test_a_consumer_keeps_the_documents_order() -> None:
    stream = Stream(4, 2, 2, 2, 7)
    assert accesses(stream.consumer(NotifyConsumer.ALWAYS), [9, 7, 9]) == [
        f"Load(location=('word', {PROD}))",
        f"Load(location=('word', {CONS}))",
        f"Load(location=('word', {PROD}))",
        "Fence(kind='read')",
        "Expect(location=('byte', 3), value=7)",
        "Expect(location=('byte', 0), value=8)",
        "Fence(kind='full')",
        f"Store(location=('word', {CONS}), value=9)",
        "Fence(kind='full')",
        "Notify(channel='producer')",
        "End(error='')",
    ]


def accesses(behaviour: Behaviour, loads: list[int]) -> list[str]:
    """Return what a program does when its first loads find these values, and later ones the last of them."""
    point, seen = Point.start(behaviour, {}), []
    while True:
        seen.append(str(point.access))
        if seen[-1].startswith("End"):
            return seen
        is_load = seen[-1].startswith("Load")
        point = point.after((loads.pop(0) if len(loads) > 1 else loads[0]) if is_load else 0)


def reads_one_byte_then_waits_for_the_end(publish: bool) -> Behaviour:
    """A consumer that stops while there are bytes: it waits until the producer, somewhere else, says it is done."""

    def run(processor: Processor) -> None:
        ring = Consumer(processor.array(8), processor.words, PROD, CONS, processor.fences)  # type: ignore[arg-type]
        while not ring.readable():
            processor.wait("consumer")
        notify = ring.consumed(1)
        if (publish and ring.publish()) or notify:
            processor.notify("producer")
        processor.wait("done")

    return run


def writes_nine_bytes_then_says_so(processor: Processor) -> None:
    Stream(8, 9, 8, 8, 0).producer(processor)
    processor.notify("done")


@pytest.mark.spec("NORING-4")
@pytest.mark.parametrize("model", MODELS)
def test_publishing_before_another_wait_wakes_a_producer_that_waits_for_space(model: Callable[[], Model]) -> None:
    ends = [writes_nine_bytes_then_says_so, reads_one_byte_then_waits_for_the_end(publish=True)]
    assert not explore(model(), ends, Stream(8, 9, 8, 8, 0).memory()).failure
    ends[CONSUMER] = reads_one_byte_then_waits_for_the_end(publish=False)
    assert "lost wake-up" in explore(model(), ends, Stream(8, 9, 8, 8, 0).memory()).failure


def test_a_producer_may_not_sleep_while_anything_is_free() -> None:
    """Why Producer says to sleep only after an empty writable(): the consumer tells of no ring but a full one."""

    def wants_all_free(processor: Processor) -> None:
        ring = Producer(processor.array(2), processor.words, PROD, CONS, processor.fences)  # type: ignore[arg-type]
        ring.writable()
        if ring.produced(1):
            processor.notify("consumer")
        while len(ring.writable()) != 1:
            processor.wait("producer")

    stream = Stream(2, 1, 1, 1, 0)
    ends = [wants_all_free, stream.consumer(NotifyConsumer.FULL_ONLY)]
    weak = explore(StoreBuffers(), ends, {**stream.memory(), ("word", PROD): 1, ("word", CONS): 0})
    assert weak.failure
