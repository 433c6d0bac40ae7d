"""Section *Why ring.h is not needed*: when an end of a byte ring must notify the other, and when to ask again.

A data ring has no event index. Whether the other end needs a notification follows from the two indexes: the producer
tells a consumer that may have found the ring empty, the consumer tells a producer that may have found it full. Each
stores its own index, passes a full fence, and only then reads the other's: the other does the same before it sleeps,
so at least one of them sees what the other did and no wake-up is lost.

A peer that leaves out its fence can still miss a notification that these rules suppress; the schedules below bound
what that costs. Delays are in seconds.

Spec: Indexes Page and Data ring > Why ring.h is not needed; Workflow (its last steps).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from refimpl.errors import Misuse

INDEX_MASK = 0xFFFFFFFF


class NotifyConsumer(Enum):
    """When a consumer notifies the producer after taking bytes (erratum E-CONSNOTIFY)."""

    #: Only where the ring had been full: nobody else can be waiting for space.
    FULL_ONLY = "full-only"
    #: After every store of the consumer's index: the document's own workflow, word for word.
    ALWAYS = "always"


def producer_must_notify(cons: int, old_prod: int) -> bool:
    """Say whether the consumer may be asleep: it had taken all there was before this store.

    ``cons`` is read after the new prod was stored and a full fence; ``old_prod`` is what prod was before.
    """
    return cons == old_prod  # NORING-5


def consumer_must_notify(prod: int, old_cons: int, size_bytes: int, rule: NotifyConsumer) -> bool:
    """Say whether the producer may be asleep: the ring was full before this store.

    ``prod`` is read after the new cons was stored and a full fence; ``old_cons`` is the cons stored before it, the one
    the producer has seen.
    """
    if rule is NotifyConsumer.ALWAYS:
        return True  # WORKFLOW-12
    return (prod - old_cons) & INDEX_MASK == size_bytes  # NORING-4 (E-CONSNOTIFY)


def doubling(first: float, longest: float, total: float | None = None) -> Iterator[float]:
    """Yield ``first``, twice that and so on, at most ``longest`` each, until their sum reaches ``total``.

    Raises Misuse unless 0 < first <= longest.
    """
    if not 0 < first <= longest:
        raise Misuse(f"delays from {first} to {longest} seconds never grow")
    delay, left = first, total
    while left is None or left > 0:
        step = delay if left is None else min(delay, left)
        yield step
        if left is not None:
            left -= step
        delay = min(delay * 2, longest)


def renotify_delays() -> Iterator[float]:
    """Yield, without end, how long to wait each time before notifying again: 5 ms, doubling to 1 s.

    For a producer that waits while ``out`` holds bytes the peer has not taken: Linux's backend looks at out_prod again
    without a full fence after storing out_cons, and may sleep on a notification that was rightly suppressed.
    """
    return doubling(0.005, 1.0)  # NORING-5 (E-CONSNOTIFY)


def held_error_delays() -> Iterator[float]:
    """Yield how long to wait before looking whether ``in`` is empty: 5 ms doubling to 100 ms, 1 s in all.

    For a backend that holds an in_error back until the frontend has taken all data; when this ends it is published.
    """
    return doubling(0.005, 0.1, total=1.0)  # IDXPAGE-14 (E-DRAIN)
