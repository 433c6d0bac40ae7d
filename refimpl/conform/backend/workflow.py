"""Why ring.h is not needed; Workflow."""

from __future__ import annotations

from contextlib import suppress

from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.indexes_page import reset
from refimpl.conform.backend.sockets import Stream
from refimpl.conform.probes import Failed, NotObservable, Probes, expect, require
from refimpl.testing import raw

probe = Probes()


def fill(guest: Guest, stream: Stream, halves: int) -> bytes:
    """Send so many times what ``in`` holds, none of it read; return it."""
    half = stream.near.ring.half_bytes
    sent = bytes(range(256)) * (half * halves // 256)
    for first in range(0, len(sent), half):
        stream.far.send(sent[first : first + half])
        stream.far.await_sent()
    guest.front.await_true(lambda: stream.near.available >= half, "a full in")
    return sent


@probe("WORKFLOW-3", "WORKFLOW-6", "WORKFLOW-13")
def a_full_in_is_left_alone(guest: Guest) -> None:
    """With `in` full nothing is written into it, however much more there is."""
    stream = guest.stream()
    half = stream.near.ring.half_bytes
    sent = fill(guest, stream, 3)
    guest.is_answered(0)
    expect("bytes in a full in", stream.near.available, half)
    require(stream.near.ring.read("in", 0, half) == sent[:half], "what in held was overwritten before it was read")


@probe("IDXPAGE-18")
def what_had_no_room_follows(guest: Guest) -> None:
    """As a full `in` is read, with an event each time, all that was sent follows, in order."""
    stream = guest.stream()
    sent = fill(guest, stream, 4)
    received = b""
    with suppress(AssertionError):
        while len(received) < len(sent):
            received += stream.near.receive(stream.near.ring.half_bytes)
    require(sent.startswith(received), "what follows is not what was sent")
    require(received == sent, f"of {len(sent)} bytes {len(received)} came: an event is not heard any more")


@probe("IDXPAGE-13")
def an_event_for_nothing_is_not_the_last(guest: Guest) -> None:
    """After an event that found `out` empty, as a frontend sends having read, what is sent next is taken too."""
    stream = guest.stream()
    for word in (b"first", b"second", b"third"):
        stream.near.send(word)
        try:
            stream.near.await_sent()
        except AssertionError:
            raise Failed(f"after an event that found out empty, {word!r} is not taken from it") from None
        expect("what is received", stream.far.receive(len(word)), word)
        guest.front.notify(stream.near.ring.port)
        guest.count_events(stream.near.ring.port, seconds=0.2)  # Until the backend has looked, and found nothing.


@probe("WORKFLOW-8", "NORING-5")
def a_producer_notifies(guest: Guest) -> None:
    """When bytes were put into an empty `in` an event comes on its port."""
    stream = guest.stream()
    for _ in range(3):
        guest.quiet()
        stream.far.send(b"event")
        require(guest.hears(stream.near.ring.port), "bytes were put into in, and no event came")
        expect("what is received", stream.near.receive(5), b"event")


@probe("WORKFLOW-8")
def an_error_is_notified(guest: Guest) -> None:
    """When in_error is set an event comes on the ring's port."""
    stream = guest.stream()
    guest.quiet()
    guest.push(raw.release_request, stream.far.id)
    require(guest.hears(stream.near.ring.port), "no event came with in_error", under="E-ERRNOTIFY")
    stream.near.await_error("in")


@probe("WORKFLOW-9", "WORKFLOW-11", "WORKFLOW-14")
def out_is_taken_from_cons_to_prod(guest: Guest) -> None:
    """What lies in `out` from out_cons to out_prod is sent, once, in order, around the array's end; nothing else is."""
    stream = guest.stream()
    half = stream.near.ring.half_bytes
    stream.near.ring.data[half:] = b"\xee" * half
    for number, size in enumerate((1, half - 1, half, 7, half // 2)):
        word = bytes([65 + number]) * size
        stream.near.send(word)
        expect("all that is received", stream.far.receive(size) == word, True)
    guest.is_answered(0)
    expect("bytes received beyond what was sent", stream.far.available, 0)


@probe("WORKFLOW-10", "IDXPAGE-15")
def nothing_is_taken_after_out_error(guest: Guest) -> None:
    """Once out_error is set out_cons stands still, whatever `out` holds, and the error stays and is told once."""
    near = reset(guest)
    near.send(b"to nobody")
    error = near.await_error("out")
    taken = near.page["out_cons"]
    guest.quiet()
    near.send(b"to nobody")
    events = guest.count_events(near.ring.port, seconds=0.3)
    expect("out_cons after out_error", near.page["out_cons"], taken)
    require(near.error("out") == error, f"out_error was {error} and is {near.error('out')}", under="E-OUTERR")
    require(events < 10, "events come without end: the error is met again and again", under="E-OUTERR")


@probe("WORKFLOW-12")
def a_consumer_notifies(guest: Guest) -> None:
    """When bytes were taken from a full `out` an event comes: a producer that waits for room is told."""
    stream = guest.stream()
    guest.quiet()
    stream.near.send(b"f" * stream.near.ring.half_bytes)
    require(guest.hears(stream.near.ring.port), "all of a full out was taken, and no event came")


@probe("WORKFLOW-12")
def a_consumer_notifies_always(guest: Guest) -> None:
    """When bytes were taken from `out` an event comes."""
    stream = guest.stream()
    guest.quiet()
    stream.near.send(b"a few")
    events = guest.count_events(stream.near.ring.port, seconds=0.3)
    stream.near.await_sent()
    require(events, "none comes where the ring had not been full", under="E-CONSNOTIFY")


@probe("WORKFLOW-15")
def the_error_words_are_the_backends(guest: Guest) -> None:
    """What the frontend leaves in the error words before CONNECT is not taken for an error of the connection."""
    raise NotObservable("which end set a word cannot be told from the word")


@probe("NORING-4")
def a_spared_event_is_not_missed(guest: Guest) -> None:
    """A consumer that was not notified of what came while it was reading finds it all the same."""
    stream = guest.stream()
    total = 0
    for _ in range(40):
        stream.near.ring.produce("out", b"spare")
        total += 5
    guest.platform.fences.full()
    guest.front.notify(stream.near.ring.port)
    expect("bytes received for one event", len(stream.far.receive(total)), total)


@probe("WORKFLOW-4")
def barriers(guest: Guest) -> None:
    """Barriers stand where the workflow has them."""
    raise NotObservable("a missing barrier shows by chance only, and on some processors")
