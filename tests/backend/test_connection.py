"""Bytes between TCP and the data ring, with a frontend that does what it likes."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import socket
import struct
import threading

import pytest

from refimpl.backend.loop import EventLoop
from refimpl.data_ring.workflow import Producer
from refimpl.testing import raw

ENOTCONN, EIO, ECONNRESET, EPIPE = -107, -5, -104, -32


def connected(guest, server, order: int = 1):
    ring = guest.connected(7, server.getsockname(), order)
    peer, _ = server.accept()
    peer.settimeout(30)
    return ring, peer


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


@pytest.mark.spec("IDXPAGE-8", "IDXPAGE-9", "IDXPAGE-10", "IDXPAGE-13")
@pytest.mark.parametrize("order", [1, 4, 9])
def test_bytes_cross_both_ways_around_every_border(guest, server, order: int) -> None:
    ring, peer = connected(guest, server, order)
    sizes = [1, 2, 4095, 4096, min(4097, ring.half_bytes), ring.half_bytes - 1, ring.half_bytes, 100]
    with peer:
        for size in sizes:
            data = os.urandom(size)
            guest.put(ring, data)
            assert b"".join(iter_exactly(peer, size)) == data
            echo = threading.Thread(target=peer.sendall, args=(data,))
            echo.start()
            assert guest.take(ring, size) == data
            echo.join()


def iter_exactly(peer: socket.socket, size: int):
    while size:
        piece = peer.recv(size)
        assert piece
        size -= len(piece)
        yield piece


@pytest.mark.spec("IDX-6", "IDX-7", "WORKFLOW-1", "DRING-1")
def test_a_long_stream_through_a_small_ring_keeps_its_hash(guest, server) -> None:
    ring, peer = connected(guest, server, 1)
    data = random.Random(1).randbytes(300_000)
    received = hashlib.sha256()

    def read_all() -> None:
        for piece in iter_exactly(peer, len(data)):
            received.update(piece)

    reader = threading.Thread(target=read_all)
    reader.start()
    sent = 0
    while sent < len(data):
        free = ring.half_bytes - (ring.indexes["out_prod"] - ring.indexes["out_cons"]) % 2**32
        if not free:
            guest.await_turns(lambda: (ring.indexes["out_prod"] - ring.indexes["out_cons"]) % 2**32 < ring.half_bytes)
            continue
        piece = data[sent : sent + free]
        guest.put(ring, piece)
        sent += len(piece)
    reader.join()
    peer.close()
    assert received.digest() == hashlib.sha256(data).digest()


# The end of the stream, and errors.


@pytest.mark.spec("IDXPAGE-14", "IDXPAGE-16", "IDXPAGE-18", "WORKFLOW-15")
@pytest.mark.erratum("E-SIGN", "E-FIN-LOSS", "E-DRAIN", "E-ERRNOTIFY")
def test_the_peers_end_is_said_after_its_data_was_taken(guest, server) -> None:
    ring, peer = connected(guest, server)
    peer.sendall(b"the last")
    peer.close()  # Its end stands right behind the data.
    guest.await_turns(lambda: ring.indexes["in_prod"] == 8)
    assert ring.indexes.error("in_error") == 0
    assert guest.take(ring, 8) == b"the last"
    assert guest.await_error(ring, "in_error") == ENOTCONN
    assert ring.indexes.error("out_error") == 0


@pytest.mark.erratum("E-DRAIN")
def test_an_end_held_back_is_said_within_its_time_even_if_the_data_stays(guest, server) -> None:
    ring, peer = connected(guest, server)
    peer.sendall(b"never taken")
    peer.close()
    assert guest.await_error(ring, "in_error") == ENOTCONN
    assert (ring.indexes["in_prod"], ring.indexes["in_cons"]) == (11, 0)


@pytest.mark.spec("IDXPAGE-16")
@pytest.mark.erratum("E-WRITE-EOF")
def test_after_the_peers_end_it_can_still_be_written_to(guest, server) -> None:
    ring, peer = connected(guest, server)
    peer.shutdown(socket.SHUT_WR)
    assert guest.await_error(ring, "in_error") == ENOTCONN
    guest.put(ring, b"answer")
    with peer:
        assert b"".join(iter_exactly(peer, 6)) == b"answer"


@pytest.mark.spec("IDXPAGE-14", "IDXPAGE-15")
@pytest.mark.erratum("E-RST", "E-OUTERR")
def test_a_reset_is_said_in_both_words_and_received_data_stays_readable(guest, server) -> None:
    ring, peer = connected(guest, server)
    peer.sendall(b"before")
    guest.await_turns(lambda: ring.indexes["in_prod"] == 6)
    reset(peer)
    assert guest.await_error(ring, "out_error") in (ECONNRESET, EPIPE)
    assert guest.take(ring, 6) == b"before"
    assert guest.await_error(ring, "in_error") == ECONNRESET
    out_cons = ring.indexes["out_cons"]
    guest.put(ring, b"too late")
    guest.turn()
    assert ring.indexes["out_cons"] == out_cons


@pytest.mark.spec("IDXPAGE-17", "IDXPAGE-18")
def test_an_idle_socket_has_no_error(guest, server) -> None:
    ring, peer = connected(guest, server)
    with peer:
        guest.turn()
        assert (ring.indexes.error("in_error"), ring.indexes.error("out_error")) == (0, 0)


# Hostile indexes.


@pytest.mark.erratum("E-IDXBAD")
@pytest.mark.security("SEC-B-11")
@pytest.mark.parametrize(
    ("word", "value"),
    [("out_prod", 2**31), ("out_prod", 2**32 - 1), ("out_prod", 4097), ("in_cons", 1), ("in_cons", 2**32 - 4097)],
)
def test_impossible_indexes_end_the_socket_and_nothing_else(guest, server, word: str, value: int) -> None:
    ring, peer = connected(guest, server)
    ring.indexes[word] = value
    guest.platform.fences.full()
    guest.notify(ring.port)
    assert guest.await_error(ring, "in_error") == EIO
    assert guest.await_error(ring, "out_error") == EIO
    with peer, pytest.raises(ConnectionResetError):
        peer.recv(1)
    assert guest.ask(raw.release_request, 7).ret == 0
    guest.connected(8, server.getsockname())


@pytest.mark.erratum("E-OWNIDX")
@pytest.mark.security("SEC-B-3", "SEC-B-11")
def test_the_backends_own_indexes_are_never_read_back(guest, server) -> None:
    ring, peer = connected(guest, server)
    with peer:
        guest.put(ring, b"one")
        assert peer.recv(9) == b"one"
        ring.indexes["out_cons"] = 1000
        ring.indexes["in_prod"] = 1000
        ring.indexes["ring_order"] = 31
        guest.put(ring, b"two")
        assert peer.recv(9) == b"two"
        guest.turn()
        assert ring.indexes["out_cons"] == 6
        peer.sendall(b"three")
        guest.await_turns(lambda: ring.indexes["in_prod"] == 5)


@pytest.mark.security("SEC-B-11")
def test_random_words_at_every_step_never_stop_the_backend(guest, server) -> None:
    order = random.Random(7)
    for id in range(40):
        ring = guest.connected(100 + id, server.getsockname())
        peer, _ = server.accept()
        for _ in range(5):
            ring.indexes.set_word(4 * order.randrange(0, 35), order.choice([0, 1, 4096, 4097, 2**31, 2**32 - 1]))
            guest.notify(ring.port)
        peer.close()
        assert guest.ask(raw.release_request, 100 + id).ret == 0
    assert guest.ask(raw.socket_request, 1).ret == 0


# Bounds.


@pytest.mark.spec("WORKFLOW-13", "WORKFLOW-14")
@pytest.mark.security("SEC-B-13")
def test_a_frontend_that_takes_nothing_stops_tcp_and_costs_nothing(guest, server) -> None:
    ring, peer = connected(guest, server)
    peer.setblocking(False)
    sent = 0
    try:
        while True:
            sent += peer.send(bytes(65536))
    except BlockingIOError:
        pass
    guest.await_turns(lambda: ring.indexes["in_prod"] == ring.half_bytes)
    assert sent > ring.half_bytes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for _ in range(20):
        guest.platform.wait(0.01)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 0.1
    assert ring.indexes["in_prod"] == ring.half_bytes
    with peer:
        assert len(guest.take(ring, 3 * ring.half_bytes)) >= 3 * ring.half_bytes


@pytest.mark.parametrize(("order", "is_large"), [(1, False), (4, False), (9, True)])
def test_a_large_ring_is_filled_in_pieces_and_the_loop_sleeps_while_it_is_emptied(
    guest, server, monkeypatch, order: int, is_large: bool
) -> None:
    """Whoever empties it needs a processor; a small one is emptied before anybody could sleep."""
    pieces, sleeps = [], []
    produced, wait = Producer.produced, EventLoop._wait_for_events
    ring, peer = connected(guest, server, order)

    def note_piece(self: Producer, count: int) -> bool:
        pieces.append(count)
        return produced(self, count)

    def note_sleep(self: EventLoop, seconds: float | None) -> list[tuple[int, int]]:
        sleeps.append(self.long_waits)
        return wait(self, seconds)

    monkeypatch.setattr(Producer, "produced", note_piece)
    monkeypatch.setattr(EventLoop, "_wait_for_events", note_sleep)
    sending = threading.Thread(target=peer.sendall, args=(bytes(2 * ring.half_bytes),))
    sending.start()
    guest.await_turns(lambda: ring.indexes["in_prod"] == ring.half_bytes)
    guest.turn()
    assert max(pieces) <= max(ring.half_bytes // 4, 65536)
    assert any(sleeps) == is_large
    assert len(guest.take(ring, 2 * ring.half_bytes)) == 2 * ring.half_bytes
    sending.join()
    peer.close()
    del sleeps[:]
    guest.turn()
    guest.turn()
    assert not any(sleeps)


@pytest.mark.spec("NORING-5", "WORKFLOW-8", "IDX-2")
def test_streaming_uses_no_commands(guest, server) -> None:
    ring, peer = connected(guest, server)
    with peer:
        before = guest.commands["rsp_prod"]
        for _ in range(50):
            guest.put(ring, b"x" * 1000)
            assert len(b"".join(iter_exactly(peer, 1000))) == 1000
        assert guest.commands["rsp_prod"] == before
