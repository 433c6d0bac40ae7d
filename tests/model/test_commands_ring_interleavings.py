"""Every order in which both ends of the commands ring can act; as tests/model/test_interleavings.py, which see."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from refimpl.commands import ring as ring_module
from refimpl.commands.ring import RESPONSE_SIZE_BYTES, SLOT_SIZE_BYTES, BackRing, FrontRing
from refimpl.testing.fence_calls import WEAKER, FenceCall, fence_calls
from refimpl.testing.memory_models import StoreBuffers, Views
from refimpl.testing.memory_order import Memory, Model, Outcome, explore
from refimpl.testing.simulated_processor import Processor

MODELS: tuple[Callable[[], Model], ...] = (StoreBuffers, Views)
FRONT, BACK = 0, 1


def test_the_fences_are_found() -> None:
    assert sorted(call.kind for call in fence_calls(ring_module.__file__)) == ["full", "full", "read", "write"]


def able_to_show(fence: FenceCall) -> tuple[Callable[[], Model], ...]:
    """Return the models in which the fence does anything: on x86 only full ones do."""
    return MODELS if fence.kind == "full" else (Views,)


def request(number: int) -> bytes:
    return f"request {number}".encode().ljust(SLOT_SIZE_BYTES, b".")


def response(number: int) -> bytes:
    return f"response {number}".encode().ljust(RESPONSE_SIZE_BYTES, b".")


class Exchange(NamedTuple):
    """A frontend that sends ``total`` requests, ``window`` at a time, and a backend that answers each."""

    total: int
    window: int
    slots: int
    start: int

    def memory(self) -> Memory:
        empty: dict[tuple[str, int], int | bytes] = {("slot", number): b"stale" for number in range(self.slots)}
        event = (self.start + 1) & 0xFFFFFFFF
        words = {("word", number): value for number, value in enumerate((self.start, event) * 2)}
        return {**words, **empty}

    def front(self, processor: Processor) -> None:
        page = processor.page(ring_module.slot_offset(0), SLOT_SIZE_BYTES)
        ring = FrontRing(page, processor.fences, start_index=self.start)  # type: ignore[arg-type]
        sent = answered = 0
        while answered < self.total:
            processor.settled(sent, answered, ring)
            while sent < self.total and sent - answered < self.window:
                if ring.push_request(request(sent)):
                    processor.notify("back")
                sent += 1
            found = ring.take_response()
            if found is not None:
                assert found == response(answered)
                answered += 1
            elif not ring.final_check():
                processor.wait("front")

    def back(self, processor: Processor) -> None:
        page = processor.page(ring_module.slot_offset(0), SLOT_SIZE_BYTES)
        ring = BackRing(page, processor.fences, start_index=self.start)  # type: ignore[arg-type]
        done = 0
        while done < self.total:
            processor.settled(done, ring)
            found = ring.take_request()
            if found is not None:
                assert found == request(done)
                if ring.push_response(response(done)):
                    processor.notify("front")
                done += 1
            elif not ring.final_check():
                processor.wait("back")

    def explore(self, model: Model, end: int | None = None, fence: FenceCall | None = None, left: str = "") -> Outcome:
        weak = {} if fence is None else fence.weakened_to(left)
        weakened = [weak if end == number else {} for number in (FRONT, BACK)]
        return explore(model, [self.front, self.back], self.memory(), weakened)


EXCHANGES = {
    "one-by-one": Exchange(total=2, window=1, slots=1, start=2**32 - 1),
    "two-at-once": Exchange(total=2, window=2, slots=2, start=2**31 - 1),
    "slots-come-round": Exchange(total=3, window=1, slots=2, start=0),
}


@pytest.fixture
def few_slots(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the commands ring have fewer slots, so that a short exchange uses each more than once."""
    return lambda slots: monkeypatch.setattr(ring_module, "RING_SLOTS", slots)


@pytest.mark.spec("RING-12", "RING-18")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)
def test_every_request_is_answered_and_nobody_sleeps_for_ever(
    exchange: Exchange, model: Callable[[], Model], few_slots: Callable[[int], None]
) -> None:
    few_slots(exchange.slots)
    outcome = exchange.explore(model())
    assert not outcome.failure, "\n".join((outcome.failure, *outcome.schedule))
    assert outcome.states > 100, "nothing was interleaved"


@pytest.mark.spec("RING-12", "RING-18")
@pytest.mark.parametrize("end", [pytest.param(FRONT, id="frontend"), pytest.param(BACK, id="backend")])
@pytest.mark.parametrize(
    ("fence", "left"),
    [
        pytest.param(fence, left, id=f"{fence}-becomes-{left}")
        for fence in fence_calls(ring_module.__file__)
        for left in WEAKER[fence.kind]
    ],
)
def test_no_fence_of_the_commands_ring_can_be_weaker(
    fence: FenceCall, left: str, end: int, few_slots: Callable[[int], None]
) -> None:
    for model in able_to_show(fence):
        for exchange in EXCHANGES.values():
            few_slots(exchange.slots)
            if exchange.explore(model(), end, fence, left).failure:
                return
    pytest.fail("no order of events shows that the fence is needed")
