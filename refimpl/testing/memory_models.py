"""Two memory models: how stores reach memory, and what loads may find there.

:class:`StoreBuffers` is total store order (x86): each processor's stores wait in a queue of its own and reach memory
later, in order; a load sees its own queue first. Read and write fences do nothing, a full fence waits for the queue.

:class:`Views` is weaker (arm64 and the like): every location keeps all its values, and a processor that has not passed
the right fences may find any of them that it cannot know to be outdated; loads of bytes nobody looks at may be done
late, after later stores. Fences work as C11's do: what was seen or done before a write fence is known to whoever,
behind a read fence, has loaded a value stored after it; full fences also order all that passes them among each other.
It allows whatever the first does, and more. Neither lets a store happen before a load that decided about it: no
processor does that.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from refimpl.testing.memory_order import Memory, Step, Wrong
from refimpl.testing.simulated_processor import Expect, Fence, Load, Location, Notify, Point, Store, Value, Wait


def replaced(items: tuple[Any, ...], place: int, item: Any) -> tuple[Any, ...]:
    """Return the items with another one in a place."""
    return (*items[:place], item, *items[place + 1 :])


class _Buffered(NamedTuple):
    points: tuple[Point, ...]
    queues: tuple[tuple[tuple[int, Value], ...], ...]
    memory: tuple[Value, ...]
    events: frozenset[str]


class StoreBuffers:
    """Total store order: a queue of stores before each processor."""

    def __init__(self) -> None:
        self._place: dict[Location, int] = {}

    def start(self, points: tuple[Point, ...], memory: Memory) -> Hashable:
        """Return the first state."""
        self._place = {location: place for place, location in enumerate(memory)}
        state = _Buffered(points, ((),) * len(points), tuple(memory.values()), frozenset())
        for number in range(len(points)):
            state = self._settle(state, number)
        return state

    def points(self, state: _Buffered) -> tuple[Point, ...]:
        """Return where each program stands."""
        return state.points

    def steps(self, state: _Buffered) -> Iterator[Step]:
        """Yield all that can happen next."""
        for number, queue in enumerate(state.queues):
            if queue:
                yield Step(number, f"its store {queue[0]} reaches memory", self._flush(state, number))
            yield from self._act(state, number)

    def _flush(self, state: _Buffered, number: int) -> _Buffered:
        (place, value), *rest = state.queues[number]
        queues = replaced(state.queues, number, tuple(rest))
        return self._settle(state._replace(queues=queues, memory=replaced(state.memory, place, value)), number)

    def _act(self, state: _Buffered, number: int) -> Iterator[Step]:
        access, queue = state.points[number].access, state.queues[number]
        match access:
            case Load(location) | Expect(location, _):
                found = self._load(state, number, location)
                if isinstance(access, Load):
                    yield Step(number, f"{access} finds {found!r}", self._go_on(state, number, found))
                elif found == access.value:
                    yield Step(number, f"{access}", self._go_on(state, number))
                else:
                    yield Step(number, f"{access}", Wrong(f"{access} found {found!r}"))
            case Notify(channel) if not queue:
                yield Step(number, f"{access}", self._go_on(state._replace(events=state.events | {channel}), number))
            case Wait(channel) if not queue and channel in state.events:
                yield Step(number, f"{access}", self._go_on(state._replace(events=state.events - {channel}), number))

    def _load(self, state: _Buffered, number: int, location: Location) -> Value:
        place = self._place[location]
        for stored_place, value in reversed(state.queues[number]):
            if stored_place == place:
                return value
        return state.memory[place]

    def _go_on(self, state: _Buffered, number: int, answer: Value = 0) -> _Buffered:
        points = replaced(state.points, number, state.points[number].after(answer))
        return self._settle(state._replace(points=points), number)

    def _settle(self, state: _Buffered, number: int) -> _Buffered:
        """Do at once what nobody else can notice: queueing a store, and fences that need not wait."""
        while True:
            access, queue = state.points[number].access, state.queues[number]
            if isinstance(access, Store):
                queue = (*queue, (self._place[access.location], access.value))
            elif not isinstance(access, Fence) or (access.kind == "full" and queue):
                return state
            points = replaced(state.points, number, state.points[number].after())
            state = state._replace(points=points, queues=replaced(state.queues, number, queue))


#: For each location the number of the oldest value a processor may still find there.
_View = tuple[int, ...]


class _Thread(NamedTuple):
    point: Point
    knows: _View  # what it cannot find outdated any more
    heard: _View  # what it will know behind a read fence
    tells: _View  # what those know who load its stores behind a read fence
    late: tuple[tuple[int, Value, bool], ...]  # loads not done yet: place, expected, read fence passed


class _Viewed(NamedTuple):
    threads: tuple[_Thread, ...]
    memory: tuple[tuple[tuple[Value, _View], ...], ...]  # for each location all values, each with what it tells
    known_to_all: _View
    events: frozenset[str]


def _joined(one: _View, other: _View) -> _View:
    return tuple(map(max, one, other))


def _forget_outdated(state: _Viewed) -> _Viewed:
    """Drop the values that nobody can find any more, and count the rest from 0."""
    oldest = tuple(map(min, *(thread.knows for thread in state.threads)))
    if not any(oldest):
        return state

    def counted_anew(view: _View) -> _View:
        return tuple(max(age - first, 0) for age, first in zip(view, oldest, strict=True))

    threads = tuple(
        thread._replace(
            knows=counted_anew(thread.knows), heard=counted_anew(thread.heard), tells=counted_anew(thread.tells)
        )
        for thread in state.threads
    )
    memory = tuple(
        tuple((value, counted_anew(told)) for value, told in messages[first:])
        for messages, first in zip(state.memory, oldest, strict=True)
    )
    return _Viewed(threads, memory, counted_anew(state.known_to_all), state.events)


class Views:
    """A weaker order: every location remembers, and each processor knows only what fences have told it."""

    def __init__(self) -> None:
        self._place: dict[Location, int] = {}

    def start(self, points: tuple[Point, ...], memory: Memory) -> Hashable:
        """Return the first state."""
        self._place = {location: place for place, location in enumerate(memory)}
        nothing = (0,) * len(memory)
        threads = tuple(self._settle(_Thread(point, nothing, nothing, nothing, ())) for point in points)
        return _Viewed(threads, tuple(((value, nothing),) for value in memory.values()), nothing, frozenset())

    def points(self, state: _Viewed) -> tuple[Point, ...]:
        """Return where each program stands."""
        return tuple(thread.point for thread in state.threads)

    def steps(self, state: _Viewed) -> Iterator[Step]:
        """Yield all that can happen next."""
        for number, thread in enumerate(state.threads):
            yield from self._late_loads(state, number, thread)
            yield from self._act(state, number, thread)

    def _late_loads(self, state: _Viewed, number: int, thread: _Thread) -> Iterator[Step]:
        for which, (place, expected, _) in enumerate(thread.late):
            without = thread._replace(late=(*thread.late[:which], *thread.late[which + 1 :]))
            for found, after in self._found(state, without, place):
                what = f"load of {expected!r} at place {place} finds {found!r}"
                right = found == expected
                yield Step(number, what, self._set(state, number, after) if right else Wrong(what))

    def _act(self, state: _Viewed, number: int, thread: _Thread) -> Iterator[Step]:
        access = thread.point.access
        match access:
            case Load(location) if not any(must_precede for _, _, must_precede in thread.late):
                for found, after in self._found(state, thread, self._place[location]):
                    after = self._settle(after._replace(point=after.point.after(found)))
                    yield Step(number, f"{access} finds {found!r}", self._set(state, number, after))
            case Store(location, value):
                yield Step(number, f"{access}", self._store(state, number, thread, self._place[location], value))
            case Fence("full") if not thread.late:
                yield Step(number, f"{access}", self._full_fence(state, number, thread))
            case Notify(channel) if not thread.late:
                fenced = self._full_fence(state, number, thread)
                yield Step(number, f"{access}", fenced._replace(events=state.events | {channel}))
            case Wait(channel) if not thread.late and channel in state.events:
                fenced = self._full_fence(state, number, thread)
                yield Step(number, f"{access}", fenced._replace(events=state.events - {channel}))

    def _found(self, state: _Viewed, thread: _Thread, place: int) -> Iterator[tuple[Value, _Thread]]:
        messages = state.memory[place]
        for age in range(thread.knows[place], len(messages)):
            value, told = messages[age]
            yield (
                value,
                thread._replace(
                    knows=replaced(thread.knows, place, age),
                    heard=_joined(thread.heard, replaced(told, place, max(age, told[place]))),
                ),
            )

    def _store(self, state: _Viewed, number: int, thread: _Thread, place: int, value: Value) -> _Viewed:
        age = len(state.memory[place])
        message = (value, replaced(thread.tells, place, age))
        memory = replaced(state.memory, place, (*state.memory[place], message))
        after = thread._replace(knows=replaced(thread.knows, place, age))
        return self._go_on(state._replace(memory=memory), number, after)

    def _full_fence(self, state: _Viewed, number: int, thread: _Thread) -> _Viewed:
        known = _joined(_joined(thread.knows, thread.heard), state.known_to_all)
        after = thread._replace(knows=known, heard=known, tells=known)
        return self._go_on(state._replace(known_to_all=known), number, after)

    def _go_on(self, state: _Viewed, number: int, thread: _Thread) -> _Viewed:
        return self._set(state, number, self._settle(thread._replace(point=thread.point.after())))

    def _settle(self, thread: _Thread) -> _Thread:
        """Do at once what nobody else can notice: putting a load off, and fences for one kind of access."""
        while True:
            match thread.point.access:
                case Expect(location, value):
                    thread = thread._replace(late=(*thread.late, (self._place[location], value, False)))
                case Fence("read"):
                    late = tuple((place, value, True) for place, value, _ in thread.late)
                    thread = thread._replace(knows=_joined(thread.knows, thread.heard), late=late)
                case Fence("write"):
                    thread = thread._replace(tells=thread.knows)
                case _:
                    return thread
            thread = thread._replace(point=thread.point.after())

    def _set(self, state: _Viewed, number: int, thread: _Thread) -> _Viewed:
        return _forget_outdated(state._replace(threads=replaced(state.threads, number, thread)))
