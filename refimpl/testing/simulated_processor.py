"""Run real code against a memory that does not exist, one access at a time.

The code under test is given simulated words, arrays, pages, fences and event channels, through a :class:`Processor`.
Each access it makes is an :data:`Access`, and there it stops: what happens next, and what a load finds, is for the
explorer of :mod:`refimpl.testing.memory_order` to say. Code that depends on nothing but what it was told needs no
thread and no rewriting to be stopped: it is run again from its beginning with one answer more. What comes after a given
list of answers is computed once and remembered (:class:`Point`), so that millions of interleavings cost few runs.

    def sleeper(processor):
        if processor.words[0] == 0:
            processor.wait("wake-up")
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from refimpl.platform import Fences

#: Where a value is: a 32-bit word, a byte of an array, or a whole slot, each of which is one indivisible access here.
Location = tuple[str, int]
Value = int | bytes
#: Where in the code a fence stands: file and line.
FenceSite = tuple[str, int]


class Load(NamedTuple):
    """A load; the answer is the value."""

    location: Location


class Expect(NamedTuple):
    """A load of bytes that nobody looks at: the processor may do it late, but this value has to come out."""

    location: Location
    value: Value


class Store(NamedTuple):
    """A store."""

    location: Location
    value: Value


class Fence(NamedTuple):
    """A barrier, ``"full"``, ``"read"`` or ``"write"``."""

    kind: str


class Notify(NamedTuple):
    """An event; what was stored before it is seen by whom it wakes, as platforms promise."""

    channel: str


class Wait(NamedTuple):
    """Sleep until an event came in, and take it."""

    channel: str


class End(NamedTuple):
    """The code is done; ``error`` says how it failed, or is empty."""

    error: str


class Settled(NamedTuple):
    """The code is where all it will do follows from ``state``: how it came there no longer matters."""

    state: tuple[object, ...]


Access = Load | Expect | Store | Fence | Notify | Wait | Settled | End


class _Stopped(BaseException):
    """Ends a run at the first access that has no answer yet."""

    def __init__(self, access: Access) -> None:
        self.access = access


class Processor:
    """What the code under test is given: memory, fences and event channels."""

    def __init__(self, answers: tuple[Value, ...], weakened: Mapping[FenceSite, str]) -> None:
        self._answers = iter(answers)
        self._weakened = weakened
        self.words = SimulatedWords(self)
        self.fences = Fences(full=self._fence("full"), read=self._fence("read"), write=self._fence("write"))

    def array(self, size: int) -> SimulatedArray:
        """Return the array that all processors share."""
        return SimulatedArray(self, 0, size)

    def page(self, slot_offset: int, slot_size: int) -> SimulatedPage:
        """Return the ring page that all processors share; its slots start at ``slot_offset``."""
        return SimulatedPage(self, slot_offset, slot_size)

    def notify(self, channel: str) -> None:
        """Send an event."""
        self.perform(Notify(channel))

    def wait(self, channel: str) -> None:
        """Sleep until there is an event."""
        self.perform(Wait(channel))

    def settled(self, *state: object) -> None:
        """Say, at the top of a loop, all that what follows depends on; runs that agree in it are explored once.

        Numbers, and objects of the code under test with ``__slots__``: their numbers are taken.
        """
        self.perform(Settled(tuple(part for item in state for part in _numbers(item))))

    def perform(self, access: Access) -> Value:
        """Do one access: return its answer, or stop here."""
        for answer in self._answers:
            return answer
        raise _Stopped(access)

    def _fence(self, kind: str) -> Callable[[], None]:
        def fence() -> None:
            caller = sys._getframe(1)
            left = self._weakened.get((caller.f_code.co_filename, caller.f_lineno), kind)
            if left != "nothing":
                self.perform(Fence(left))

        return fence


def _numbers(item: object) -> Iterator[object]:
    if isinstance(item, int):
        yield item
        return
    for kind in type(item).__mro__:
        for name in getattr(kind, "__slots__", ()):
            value = getattr(item, name)
            if isinstance(value, int):
                yield name, value


class SimulatedWords:
    """32-bit words, as ``memoryview.cast("I")`` gives them."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def __getitem__(self, number: int) -> Value:
        return self._processor.perform(Load(("word", number)))

    def __setitem__(self, number: int, value: int) -> None:
        self._processor.perform(Store(("word", number), value))

    def release(self) -> None:
        """Nothing to let go of."""


class SimulatedArray:
    """Bytes, as a memoryview gives them; what is read is only compared (:meth:`expect`)."""

    def __init__(self, processor: Processor, start: int, end: int) -> None:
        self._processor = processor
        self._start, self._end = start, end

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, part: slice) -> SimulatedArray:
        start, end, _ = part.indices(len(self))
        return SimulatedArray(self._processor, self._start + start, self._start + end)

    def __setitem__(self, part: slice, data: bytes) -> None:
        for place, value in zip(self[part]._places(), data, strict=True):
            self._processor.perform(Store(("byte", place), value))

    def expect(self, data: bytes) -> None:
        """Load all the bytes: these must come out."""
        for place, value in zip(self._places(), data, strict=True):
            self._processor.perform(Expect(("byte", place), value))

    def release(self) -> None:
        """Nothing to let go of."""

    def _places(self) -> Iterator[int]:
        return iter(range(self._start, self._end))


class SimulatedPage:
    """A page of words and slots: a slot is read and written as one value."""

    def __init__(self, processor: Processor, slot_offset: int, slot_size: int, slot: int = -1) -> None:
        self._processor = processor
        self._slot_offset, self._slot_size, self._slot = slot_offset, slot_size, slot

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, part: slice) -> SimulatedPage:
        if part.start is None:
            return self
        slot = (part.start - self._slot_offset) // self._slot_size
        return SimulatedPage(self._processor, self._slot_offset, self._slot_size, slot)

    def __setitem__(self, part: slice, message: bytes) -> None:
        self._processor.perform(Store(("slot", self[part]._slot), message))

    def cast(self, format: str) -> SimulatedWords:
        """Return the words."""
        return self._processor.words

    def tobytes(self) -> bytes:
        """Load the slot."""
        value = self._processor.perform(Load(("slot", self._slot)))
        return value if isinstance(value, bytes) else bytes(value)

    def release(self) -> None:
        """Nothing to let go of."""


Behaviour = Callable[[Processor], None]


class Point:
    """Where a run stands after a list of answers: the access it wants next."""

    __slots__ = ("_after", "_answers", "_behaviour", "_settled", "_weakened", "access")

    def __init__(
        self,
        behaviour: Behaviour,
        weakened: Mapping[FenceSite, str],
        answers: tuple[Value, ...] = (),
        settled: dict[Settled, Point] | None = None,
    ) -> None:
        self._behaviour, self._weakened, self._answers = behaviour, weakened, answers
        self._settled = {} if settled is None else settled
        self._after: dict[Value, Point] = {}
        self.access = self._run()

    @classmethod
    def start(cls, behaviour: Behaviour, weakened: Mapping[FenceSite, str]) -> Point:
        """Return where a run stands at first."""
        return cls(behaviour, weakened)._past_settled()

    def after(self, answer: Value = 0) -> Point:
        """Return where the run stands once this access got that answer; the same object for the same answer."""
        point = self._after.get(answer)
        if point is None:
            point = self._after[answer] = self._next(answer)._past_settled()
        return point

    def _next(self, answer: Value) -> Point:
        return Point(self._behaviour, self._weakened, (*self._answers, answer), self._settled)

    def _past_settled(self) -> Point:
        """Where the code has settled go on from the first run that had settled so."""
        point = self
        while isinstance(point.access, Settled):
            known = self._settled.get(point.access)
            if known is None:
                known = self._settled[point.access] = point._next(0)
            point = known
        return point

    def _run(self) -> Access:
        try:
            self._behaviour(Processor(self._answers, self._weakened))
        except _Stopped as stopped:
            return stopped.access
        except Exception as error:
            return End(f"{type(error).__name__}: {error}")
        return End("")
