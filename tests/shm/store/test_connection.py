"""Sockets of clients with no manners: pieces, floods, wrong lengths, clients that never read. The others go on."""

from __future__ import annotations

import selectors
import socket

import pytest

from refimpl.shm.store.quotas import Quotas
from refimpl.store.wire import HEADER, PAYLOAD_MAX, Operation, packet, strings

READ_TOOL = packet(Operation.READ, b"/tool\0", 1)
EMPTY_REPLY = packet(Operation.READ, b"", 1)


def received(stream):
    """Return all that has come, and whether the server hung up."""
    data = b""
    while True:
        try:
            piece = stream.recv(1 << 20)
        except BlockingIOError:
            return data, False
        except ConnectionResetError:
            return data, True
        if not piece:
            return data, True
        data += piece


def asked(loop, stream, request=READ_TOOL):
    """Return the reply to one request."""
    stream.sendall(request)
    loop.settle()
    return received(stream)[0]


def flood(stream, request=READ_TOOL):
    """Send until the kernel takes no more; return how many whole requests went."""
    sent = 0
    try:
        while True:
            sent += stream.send(request * 100)
    except BlockingIOError:
        return sent // len(request)


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 21, 23])
def test_requests_in_pieces(loop, size):
    loop = loop()
    with loop.connect() as stream:
        data = READ_TOOL * 5
        for at in range(0, len(data), size):
            stream.sendall(data[at : at + size])
            loop.settle()
        assert received(stream) == (EMPTY_REPLY * 5, False)


def test_many_requests_at_once_are_answered_in_order(loop):
    loop = loop()
    with loop.connect() as stream:
        stream.sendall(b"".join(packet(Operation.READ, b"/tool\0", number) for number in range(1000)))
        data = b""
        while len(data) < 1000 * len(EMPTY_REPLY):
            loop.turn()
            data += received(stream)[0]
        assert [HEADER.unpack(data[at : at + 16])[1] for at in range(0, len(data), 16)] == list(range(1000))


@pytest.mark.parametrize("length", [PAYLOAD_MAX + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_payload_too_long_ends_the_connection(loop, length):
    loop = loop()
    with loop.connect() as stream, loop.connect() as other:
        stream.sendall(READ_TOOL + HEADER.pack(Operation.READ, 2, 0, length))
        loop.settle()
        assert received(stream) == (EMPTY_REPLY, True)
        assert asked(loop, other) == EMPTY_REPLY


def test_the_longest_payload_is_taken(loop):
    loop = loop()
    with loop.connect() as stream:
        request = packet(Operation.WRITE, strings(b"/a") + b"v" * (PAYLOAD_MAX - 3), 1)
        assert asked(loop, stream, request) == packet(Operation.WRITE, b"OK\0", 1)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 20])
def test_a_client_that_leaves_half_a_request(loop, size):
    loop = loop()
    with loop.connect() as other:
        with loop.connect() as stream:
            stream.sendall(READ_TOOL[:size])
            loop.settle()
        loop.settle()
        assert asked(loop, other) == EMPTY_REPLY
        assert len(loop.server._connections) == 1


def test_a_client_that_only_stops_sending_gets_its_reply(loop):
    loop = loop()
    with loop.connect() as stream:
        stream.sendall(READ_TOOL * 3)
        stream.shutdown(socket.SHUT_WR)
        loop.settle()
        assert received(stream) == (EMPTY_REPLY * 3, True)


def test_a_client_that_stops_reading_for_good_is_dropped(loop):
    loop = loop()
    with loop.connect() as stream:
        stream.shutdown(socket.SHUT_RD)
        stream.sendall(READ_TOOL)
        loop.settle()
        assert not loop.server._connections


@pytest.mark.parametrize("domid", [0, 1])
def test_a_client_that_never_reads_is_not_read_any_more(loop, domid):
    loop = loop()
    with loop.connect(domid) as stream, loop.connect() as other:
        while flood(stream):
            loop.settle()
        (silent,) = (made for made in loop.server._connections if made.session.outbox)
        assert silent.session.outbox.size < 100_000
        assert asked(loop, other) == EMPTY_REPLY
        loop.settle()
        assert loop.turn() == 0  # and costs nothing


def test_a_client_that_never_reads_is_dropped_after_a_while(loop):
    loop = loop(Quotas(stall_seconds=0.0))
    with loop.connect() as stream, loop.connect() as other:
        while flood(stream):
            loop.settle()
        while len(loop.server._connections) > 1:
            loop.turn(30)
        assert received(stream)[1]
        assert asked(loop, other) == EMPTY_REPLY
        loop.settle()
        assert loop.turn() == 0


def test_a_slow_reader_is_not_dropped(loop):
    loop = loop()
    with loop.connect() as stream:
        sent = flood(stream)
        data = b""
        while len(data) < sent * len(EMPTY_REPLY):
            loop.turn()
            try:
                data += stream.recv(100)
            except BlockingIOError:
                continue
        assert data == EMPTY_REPLY * sent


def watch_with_long_events(loop, stream):
    """Let events of the node /t be so long that few of them fill the socket."""
    asked(loop, stream, packet(Operation.WATCH, strings(b"/t", b"x" * 4000)))


def write_new_node(number):
    return packet(Operation.WRITE, b"/t/%d\0v" % number, number)


def test_more_events_than_may_wait_end_the_connection(loop):
    loop = loop(Quotas(output_bytes=100_000))
    with loop.connect() as silent, loop.connect() as writer:
        watch_with_long_events(loop, silent)
        for number in range(200):
            assert asked(loop, writer, write_new_node(number))
        assert len(loop.server._connections) == 1
        data, hung_up = received(silent)
        assert hung_up
        assert len(data) < 500_000


@pytest.fixture
def guest_and_silent_watcher(loop):
    """Return a loop, a guest and a client that watches what the guest writes and does not read."""
    loop = loop(Quotas(stall_seconds=0.0))
    with loop.connect() as toolstack, loop.connect(1) as guest, loop.connect() as silent:
        asked(loop, toolstack, packet(Operation.WRITE, b"/t\0"))
        asked(loop, toolstack, packet(Operation.SET_PERMS, b"/t\0b0\0"))
        watch_with_long_events(loop, silent)
        yield loop, guest, silent


def keep_writing(loop, guest):
    """Write until no reply comes; return how many did."""
    number = 0
    while asked(loop, guest, write_new_node(number)):
        number += 1
    return number


# The lesson of XSA-326.
def test_a_guest_whose_events_nobody_takes_has_to_wait(guest_and_silent_watcher):
    loop, guest, silent = guest_and_silent_watcher
    written = keep_writing(loop, guest)
    assert written < 200
    (watcher,) = (made for made in loop.server._connections if made.session.outbox)
    assert watcher.session.outbox.size < 30 * 4100
    while not (reply := received(guest)[0]):
        received(silent)
        loop.settle()
    assert reply == packet(Operation.WRITE, b"OK\0", written)


def test_but_not_for_ever(guest_and_silent_watcher):
    loop, guest, _ = guest_and_silent_watcher
    written = keep_writing(loop, guest)
    while not (reply := received(guest)[0]):
        loop.turn(30)
    assert reply == packet(Operation.WRITE, b"OK\0", written)


def test_a_waiting_guest_that_hangs_up_is_let_go(guest_and_silent_watcher):
    loop, guest, silent = guest_and_silent_watcher
    keep_writing(loop, guest)
    guest.close()
    silent.close()
    while len(loop.server._connections) > 1:
        loop.turn(30)


def test_a_waiting_guest_may_die(guest_and_silent_watcher):
    loop, guest, silent = guest_and_silent_watcher
    keep_writing(loop, guest)
    assert 0 in loop.server._connections.values()
    loop.server.release(1)
    assert received(guest) == (b"", True)
    assert received(silent)[0]


@pytest.mark.parametrize("domid", [0, 1])
def test_a_flood_does_not_keep_others_waiting(loop, domid):
    loop = loop()
    with loop.connect(domid) as one, loop.connect() as other:
        flood(one)
        loop.turn()
        other.sendall(READ_TOOL)
        loop.turn()
        assert received(other)[0] == EMPTY_REPLY
        assert len(received(one)[0]) < 50 * len(EMPTY_REPLY)


def test_a_reader_of_nothing_costs_nothing(loop):
    loop = loop()
    with loop.connect(), loop.connect(1) as half:
        half.sendall(READ_TOOL[:10])
        loop.settle()
        assert loop.turn(1.2) == 0  # longer than between two looks at clients that do not read
        assert all(key.events == selectors.EVENT_READ for key in loop.selector.get_map().values())
