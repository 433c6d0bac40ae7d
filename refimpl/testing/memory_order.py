"""Explore every order in which simulated processors can act on their memory, under a memory model.

:func:`explore` is exhaustive: no schedule of the given programs is left out. It fails where a program fails, where
bytes come out that should not, and where every processor that is not done sleeps: a lost wake-up.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from refimpl.testing.simulated_processor import Behaviour, End, FenceSite, Location, Point, Value

#: What is where at first.
Memory = Mapping[Location, Value]


class Wrong(NamedTuple):
    """A step after which nothing is right any more."""

    reason: str


class Step(NamedTuple):
    """One thing that can happen next: which processor, what, and where that leads."""

    processor: int
    what: str
    state: Any


class Outcome(NamedTuple):
    """``failure`` is empty, or says what went wrong; ``schedule`` is how it came to that, a line a step."""

    states: int
    failure: str
    schedule: tuple[str, ...]


class Model(Protocol):
    """A memory model: how processors and memory start, and what can happen next."""

    def start(self, points: tuple[Point, ...], memory: Memory) -> Hashable:
        """Return the first state."""

    def steps(self, state: Any) -> Iterator[Step]:
        """Yield all that can happen in a state; a step's state may be :class:`Wrong`."""

    def points(self, state: Any) -> tuple[Point, ...]:
        """Return where each processor's program stands."""


def explore(
    model: Model,
    behaviours: Sequence[Behaviour],
    memory: Memory,
    weakened: Sequence[Mapping[FenceSite, str]] | None = None,
    most_states: int = 2_000_000,
) -> Outcome:
    """Run the programs in every possible order, until one fails or all orders are done.

    ``weakened[i]`` says which fences of program ``i`` are to be weaker than they are written, or ``"nothing"``. Raises
    RuntimeError where there are more than ``most_states`` states: nothing is said of a search that was cut short.
    """
    fences = weakened or [{} for _ in behaviours]
    first = model.start(tuple(Point.start(b, w) for b, w in zip(behaviours, fences, strict=True)), memory)
    came_from: dict[Any, tuple[Any, Step] | None] = {first: None}
    to_do = [first]
    while to_do:
        state = to_do.pop()
        stuck = True
        for step in model.steps(state):
            stuck = False
            if isinstance(step.state, Wrong):
                return Outcome(len(came_from), step.state.reason, _schedule(came_from, state, step))
            if step.state not in came_from:
                came_from[step.state] = (state, step)
                to_do.append(step.state)
        if stuck and (reason := _how_it_ended(model.points(state))):
            return Outcome(len(came_from), reason, _schedule(came_from, state))
        if len(came_from) > most_states:
            raise RuntimeError(f"more than {most_states} states: make the programs shorter")
    return Outcome(len(came_from), "", ())


def _how_it_ended(points: tuple[Point, ...]) -> str:
    for number, point in enumerate(points):
        if isinstance(point.access, End) and point.access.error:
            return f"processor {number}: {point.access.error}"
    asleep = [number for number, point in enumerate(points) if not isinstance(point.access, End)]
    return f"lost wake-up: processors {asleep} sleep for ever" if asleep else ""


def _schedule(
    came_from: Mapping[Any, tuple[Any, Step] | None], state: Any, last: Step | None = None
) -> tuple[str, ...]:
    steps = [] if last is None else [last]
    while (before := came_from[state]) is not None:
        state, step = before
        steps.append(step)
    return tuple(f"processor {step.processor}: {step.what}" for step in reversed(steps))
