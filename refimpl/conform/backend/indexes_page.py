"""Indexes Page and Data ring; Indexes Page Structure; Data Ring Structure."""

from __future__ import annotations

from contextlib import suppress

from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.numbers import ECONNRESET, EPIPE
from refimpl.conform.backend.sockets import END, Active
from refimpl.conform.backend.xenstore import number_in
from refimpl.conform.probes import Differs, NotObservable, Probes, complain, expect, require
from refimpl.testing import raw

probe = Probes()


@probe("IDX-1")
def a_data_ring_serves_one_socket(guest: Guest) -> None:
    """Two connected sockets have a data ring each: what one sends is in no other's."""
    first, second = guest.stream(), guest.stream()
    first.near.send(b"one")
    second.near.send(b"two")
    expect("what the first receives", first.far.receive(3), b"one")
    expect("what the second receives", second.far.receive(3), b"two")


@probe("IDX-5", "IDXPAGE-6", "DRING-1")
def pages_follow_one_another_in_the_order_listed(guest: Guest) -> None:
    """The pages are mapped in ref[]'s order, scattered grants too: bytes across their borders come through."""
    order = min(3, number_in(guest, "max-page-order"))
    listener = guest.listener()
    near = guest.active(listener.port_number, guest.ring(order))
    far = listener.accept(guest.ring(order, refs=lambda refs, page: refs[::-1]))  # The last page is the first.
    half = near.ring.half_bytes
    pattern = b"".join(number.to_bytes(4, "big") for number in range(half // 4))
    near.send(pattern)
    guest.front.await_true(lambda: far.page["in_prod"] == half, f"{half} bytes in in")
    pages = [bytes(far.ring.data[first : first + 4096]) for first in range(0, 2 * half, 4096)]
    require(b"".join(reversed(pages))[:half] == pattern, "what was sent does not lie in the pages' order")
    for page, first in zip(reversed(range(len(pages) // 2)), range(0, half, 4096), strict=True):
        far.ring.data[page * 4096 : (page + 1) * 4096] = pattern[first : first + 4096]  # `out`, its pages likewise
    far.page["out_prod"] = half
    guest.platform.fences.full()
    guest.front.notify(far.ring.port)
    require(near.receive(half) == pattern, "what lies in out is not sent in the pages' order")


@probe("IDX-6", "IDX-7", "IDXPAGE-7", "WORKFLOW-1")
def in_is_the_first_half_and_both_wrap(guest: Guest) -> None:
    """`in` is the first half and `out` the second, each a circle: bytes go on at its start where its end is reached."""
    stream = guest.stream()
    half = stream.near.ring.half_bytes
    position = 0
    for number in range(7):
        word = bytes([65 + number]) * (half - 100)
        for sender, receiver in stream.ways:
            sender.send(word)
            expect("all that is received", receiver.receive(len(word)) == word, True)
            lying = receiver.ring.read("in", position, len(word))
            expect("that it lies in in at its index, modulo the size", lying == word, True)
        position += len(word)


@probe("IDXPAGE-1", "IDXPAGE-8", "IDXPAGE-9")
def the_words_are_where_the_structure_has_them(guest: Guest) -> None:
    """in_prod is at 4 and out_cons at 64: they count what came and what was taken, and no other word moves."""
    stream = guest.stream()
    stream.near.send(b"x" * 10)
    stream.far.receive(10)
    stream.near.await_sent()
    for whose, end, wanted in (
        ("sender", stream.near, [64, 68, 128]),
        ("receiver", stream.far, [0, 4, 128]),
    ):
        written = [offset for offset in range(0, 132, 4) if end.page.word(offset)]
        require(written == wanted, f"offsets of the {whose}'s words that are not 0: {written}, not {wanted}")


@probe("IDXPAGE-2", "WORKFLOW-2")
def indexes_run_freely(guest: Guest) -> None:
    """Indexes are not masked: they go on past the size of the array, here past 2**32 too."""
    listener, ring = guest.listener(), guest.ring()
    first = 2**32 - 1000
    for name in ("in_cons", "in_prod", "out_cons", "out_prod"):
        ring.indexes[name] = first
    near = guest.active(listener.port_number, ring)
    far = listener.accept()
    for number in range(6):
        word = bytes([65 + number]) * 700
        near.send(word)
        expect("what is received", far.receive(700), word)
        far.send(word)
        expect("what comes back", near.receive(700), word, under="E-IDXFREE")
    near.await_sent()
    expect("out_cons", near.page["out_cons"], (first + 4200) % 2**32, under="E-IDXFREE")


@probe("IDXPAGE-10", "WORKFLOW-7")
def in_prod_never_promises_what_is_not_there(guest: Guest) -> None:
    """Whenever in_prod has moved, the bytes before it are the ones that were sent."""
    stream = guest.stream(order=2)
    half, position = stream.far.ring.half_bytes, 0
    stream.far.ring.data[:half] = b"\xff" * half
    for number in range(60):
        word = bytes([number]) * 100
        stream.near.send(word)
        expect("the bytes that in_prod promised", stream.far.receive(100), word)
        position += 100
    expect("in_prod", stream.far.page["in_prod"], position)


@probe("IDXPAGE-13")
def out_cons_follows_out_prod(guest: Guest) -> None:
    """out_cons reaches out_prod when all of `out` is sent, and never passes it."""
    stream = guest.stream()
    for size in (1, 100, 1899, stream.near.ring.half_bytes - 2000):
        stream.near.send(b"s" * size)
        stream.far.receive(size)
        stream.near.await_sent()


def reset(guest: Guest) -> Active:
    """Make a connection that its other end has reset; return the end that lives."""
    stream = guest.stream()
    half = stream.near.ring.half_bytes
    for _ in range(2):  # More than in has room for: the rest stays unread in TCP, and its RELEASE resets.
        stream.near.send(b"r" * half)
        stream.near.await_sent()
    guest.front.await_true(lambda: stream.far.available == half, "a full in")
    stream.far.release()
    return stream.near


@probe("IDXPAGE-14")
def a_reset_is_told(guest: Guest) -> None:
    """When the other end resets the connection both error words say so."""
    near = reset(guest)
    with suppress(AssertionError):
        near.await_error("in")
    in_error = near.error("in")
    require(in_error, "a reset with nothing to read leaves in_error 0", under="E-RST")
    expect("in_error after a reset", in_error, {ECONNRESET, EPIPE}, under="E-RST")
    expect("out_error after a reset", near.await_error("out"), {ECONNRESET, EPIPE}, under="E-RST")


@probe("IDXPAGE-15", "WORKFLOW-5")
def nothing_is_read_after_in_error(guest: Guest) -> None:
    """Once in_error is set in_prod stands still; `out` can still be written to a peer that only finished sending."""
    stream = guest.stream()
    stream.far.send(b"last")
    stream.far.await_sent()
    stream.far.release()
    stream.near.receive(4)
    stream.near.await_error("in")
    expect("in_prod after in_error", stream.near.page["in_prod"], 4)


@probe("IDXPAGE-16")
def the_end_of_a_stream_is_enotconn(guest: Guest) -> None:
    """When the other end closes, in_error becomes ENOTCONN, and all data is there before it."""
    for word in (b"", b"goodbye"):
        stream = guest.stream()
        if word:
            stream.far.send(word)
            stream.far.await_sent()
        expect("what was sent before the end", stream.near.receive(len(word)), word)
        stream.far.release()
        error = stream.near.await_error("in")
        if error == -END:
            raise Differs("E-SIGN", f"in_error is {error}")
        expect("in_error", error, END)


@probe("IDXPAGE-16")
def the_end_is_told_with_data_unread(guest: Guest) -> None:
    """An end that comes in one piece with the last bytes is told too."""
    listener = guest.listener()
    near = guest.active(listener.port_number)
    near.send(b"all at once")
    near.await_sent()
    near.release()
    far = listener.accept()
    expect("what was sent before the end", far.receive(11), b"all at once")
    try:
        expect("in_error", far.await_error("in"), END)
    except AssertionError:
        if far.error("in"):
            raise
        complain("an end read together with the last bytes is never told (E-FIN-LOSS)")


@probe("IDXPAGE-17")
def a_quiet_socket_has_no_error(guest: Guest) -> None:
    """While nothing comes, and nothing is sent, both error words are 0."""
    stream = guest.stream()
    for each in (stream.near, stream.far):
        guest.front.notify(each.ring.port)
    guest.is_answered(0)
    for each in (stream.near, stream.far):
        expect("in_error and out_error", (each.error("in"), each.error("out")), (0, 0))


@probe("IDXPAGE-18")
def data_comes_without_being_asked_for(guest: Guest) -> None:
    """Bytes appear in `in` as they arrive, with no request and no event of the frontend's."""
    stream = guest.stream()
    stream.far.send(b"unasked")
    requests = guest.front.commands["req_prod"]
    expect("what is received", stream.near.receive(7), b"unasked")
    expect("req_prod", guest.front.commands["req_prod"], requests)


@probe("NORING-2")
def in_and_out_do_not_mix(guest: Guest) -> None:
    """Bytes go from `out` to the socket and from the socket to `in`: the backend writes nothing into `out`."""
    stream = guest.stream()
    ring = stream.near.ring
    stream.near.send(b"one way")
    stream.far.receive(7)
    stream.far.send(b"the other")
    stream.near.receive(9)
    half = ring.half_bytes
    expect("out after both", bytes(ring.data[half : half + 9]), b"one way\0\0")


@probe("NORING-3")
def producers_read_nothing_of_what_they_fill(guest: Guest) -> None:
    """A producer never reads from the ring it fills."""
    raise NotObservable("reading leaves no trace in memory")


@probe("IDXPAGE-4")
def the_published_order_is_taken(guest: Guest) -> None:
    """A data ring as large as max-page-order says works; so does one of order 1."""
    order = min(number_in(guest, "max-page-order"), 9)
    for each in {1, order}:
        stream = guest.stream(each)
        stream.near.send(raw.address("127.0.0.1", 1))
        expect("what is received", len(stream.far.receive(28)), 28)
