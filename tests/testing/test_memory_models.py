"""The memory models against the litmus tests everybody knows: what each allows, and what it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from refimpl.testing.memory_models import StoreBuffers, Views
from refimpl.testing.memory_order import Memory, Model, explore
from refimpl.testing.simulated_processor import Behaviour, Processor

MODELS: tuple[Callable[[], Model], ...] = (StoreBuffers, Views)


def store_then_load(fence: bool) -> list[Behaviour]:
    """The store buffer litmus: both store, then load the other's word. Wrong is only if both find 0, and sleep."""

    def one(mine: int) -> Behaviour:
        def run(processor: Processor) -> None:
            processor.words[mine] = 1
            if fence:
                processor.fences.full()
            if processor.words[1 - mine] == 0:
                processor.wait(f"event {mine}")
            else:
                processor.notify(f"event {1 - mine}")

        return run

    return [one(0), one(1)]


@pytest.mark.parametrize("model", MODELS)
def test_the_model_reorders_a_store_and_a_load(model: Callable[[], Model]) -> None:
    memory: Memory = {("word", 0): 0, ("word", 1): 0}
    assert not explore(model(), store_then_load(fence=True), memory).failure
    assert "lost wake-up" in explore(model(), store_then_load(fence=False), memory).failure


def publish_then_look(write_fence: bool, read_fence: bool) -> list[Behaviour]:
    """The message passing litmus: data, then a flag."""

    def writer(processor: Processor) -> None:
        processor.array(1)[:] = b"\1"
        if write_fence:
            processor.fences.write()
        processor.words[0] = 1

    def reader(processor: Processor) -> None:
        if processor.words[0] == 1:
            if read_fence:
                processor.fences.read()
            processor.array(1).expect(b"\1")

    return [writer, reader]


@pytest.mark.parametrize(("write_fence", "read_fence"), [(True, True), (True, False), (False, True), (False, False)])
def test_the_model_passes_messages_as_each_processor_does(write_fence: bool, read_fence: bool) -> None:
    memory: Memory = {("word", 0): 0, ("byte", 0): 0}
    ends = publish_then_look(write_fence, read_fence)
    assert not explore(StoreBuffers(), ends, memory).failure
    assert bool(explore(Views(), ends, memory).failure) == (not (write_fence and read_fence))


@pytest.mark.parametrize("full_fence", [True, False])
def test_the_model_lets_a_load_wait_past_a_store(full_fence: bool) -> None:
    def reads_then_gives_up_the_space(processor: Processor) -> None:
        processor.array(1).expect(b"\1")
        if full_fence:
            processor.fences.full()
        processor.words[0] = 1

    def reuses_the_space(processor: Processor) -> None:
        if processor.words[0] == 1:
            processor.array(1)[:] = b"\2"

    ends = [reads_then_gives_up_the_space, reuses_the_space]
    memory: Memory = {("word", 0): 0, ("byte", 0): 1}
    assert not explore(StoreBuffers(), ends, memory).failure
    assert bool(explore(Views(), ends, memory).failure) == (not full_fence)


def test_a_search_cut_short_proves_nothing() -> None:
    with pytest.raises(RuntimeError, match="shorter"):
        explore(Views(), store_then_load(fence=True), {("word", 0): 0, ("word", 1): 0}, most_states=3)
