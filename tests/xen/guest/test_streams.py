"""Bytes through the data rings, and how streams end, whoever plays the two ends."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from contextlib import closing
from typing import Any

import pytest
from faults import END_LOST, OUTPUT_DROPPED, RESET_UNTOLD, STALL
from sockets import COLLECT, ECHO, HALF_CLOSE, HASH, REPORT, RESET, SOURCE, Sockets, receive

#: Half of a ring of order 4: Linux's always, and what our frontend asks for here.
HALF = 32768
EDGES = (1, HALF - 1, 1, HALF, HALF - 2, 3, HALF + 1, 2 * HALF - 1, 2 * HALF, 2 * HALF + 1, 4095, 4097)
BULK = 64 << 20


@pytest.mark.spec("WORKFLOW-9", "WORKFLOW-10", "WORKFLOW-11", "WORKFLOW-14")
@pytest.mark.fault_of("back:linux", reason=END_LOST)
def test_peer_that_sends_and_closes_is_heard_to_the_end(sockets: Sockets) -> None:
    """Data, then the end of the stream: never the other way round, and never only one of them."""
    for count in (1, 1000, 32767, 32768, 32769, 200_000):
        with closing(sockets.connect(SOURCE)) as connection:
            connection.settimeout(4)
            connection.sendall(count.to_bytes(8, "big"))
            received = receive(connection, count + 1)
            assert len(received) == count
            assert hashlib.sha256(received).digest() == hashlib.sha256(random.Random(count).randbytes(count)).digest()


@pytest.mark.never("back:linux-stock", reason=STALL)
def test_sizes_around_every_edge_of_the_ring(sockets: Sockets) -> None:
    """Each begins where the one before ended, so that the border is met at many places."""
    with closing(sockets.connect(ECHO)) as connection:
        for size in EDGES:
            data = random.Random(size).randbytes(size)
            connection.sendall(data)
            assert receive(connection, size) == data.upper(), size


@pytest.mark.spec("WORKFLOW-1", "WORKFLOW-4", "WORKFLOW-6", "WORKFLOW-8")
@pytest.mark.never("back:linux-stock", reason=STALL)
def test_both_ways_at_once(sockets: Sockets) -> None:
    """From a byte to 64 MiB, all on one connection."""
    with closing(sockets.connect(ECHO)) as connection:
        for size in (*EDGES, 1 << 20, BULK):
            sent, received = exchange(connection, size)
            assert received == sent, size


def exchange(connection: Any, size: int) -> tuple[str, str]:
    """Send so many bytes while they come back in capitals; return the hash of what has to come, and of what came."""
    block = random.Random(size).randbytes(min(size, 1_000_003))  # Prime: no ring's size divides it.
    blocks, rest = divmod(size, len(block))
    expected, received, left = hashlib.sha256(), hashlib.sha256(), size
    for _ in range(blocks):
        expected.update(block.upper())
    expected.update(block[:rest].upper())
    sending = threading.Thread(target=_send_blocks, args=(connection, block, blocks, rest), daemon=True)
    sending.start()
    while left:
        chunk = connection.recv(65536)
        assert chunk, f"the stream ends {left} bytes early"
        received.update(chunk)
        left -= len(chunk)
    sending.join(20)
    return expected.hexdigest(), received.hexdigest()


def _send_blocks(connection: Any, block: bytes, blocks: int, rest: int) -> None:
    for _ in range(blocks):
        connection.sendall(block)
    if rest:
        connection.sendall(block[:rest])


@pytest.mark.never("back:linux-stock", reason=STALL)
def test_bulk_out(sockets: Sockets) -> None:
    data = random.Random(5).randbytes(1 << 20)
    with closing(sockets.connect(HASH)) as connection:
        connection.sendall(len(data).to_bytes(8, "big"))
        connection.sendall(data)
        assert receive(connection, 32) == hashlib.sha256(data).digest()


@pytest.mark.fault_of("back:linux", reason=END_LOST, always=False)
@pytest.mark.never("back:linux-stock", reason=STALL)
def test_peer_that_half_closes_can_still_be_talked_to(sockets: Sockets) -> None:
    with closing(sockets.connect(HALF_CLOSE)) as connection:
        connection.settimeout(4)
        assert receive(connection, 11) == b"last words"
        for _ in range(3):
            connection.sendall(bytes(1000))
    assert _collected() == 3000


@pytest.mark.fault_of("back:linux", reason=RESET_UNTOLD)
def test_reset_is_told_from_an_end(sockets: Sockets) -> None:
    with closing(sockets.connect(RESET)) as connection:
        connection.settimeout(4)
        connection.sendall(b"?")
        assert receive(connection, 9) == b"cut short"
        connection.sendall(b"?")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@pytest.mark.never("back:linux-stock", reason=STALL)
def test_stream_closed_with_data_unread(sockets: Sockets) -> None:
    """Nobody waits for anybody, and the next connection is none the worse."""
    for count in (100, 200_000):
        with closing(sockets.connect(SOURCE)) as connection:
            connection.sendall(count.to_bytes(8, "big"))
            assert len(receive(connection, 10)) == 10
    with closing(sockets.connect(ECHO)) as connection:
        connection.sendall(b"next")
        assert receive(connection, 4) == b"NEXT"


@pytest.mark.fault_of("front:linux", "back:linux", reason=OUTPUT_DROPPED, always=False)
@pytest.mark.never("back:linux-stock", reason=STALL)
def test_what_was_sent_before_the_close_arrives(sockets: Sockets) -> None:
    """Each time: the frontend waits until it is taken, or the backend sends it before it closes."""
    for _ in range(20):
        with closing(sockets.connect(COLLECT)) as connection:
            connection.sendall(b"bye")
        assert _collected() == 3


def _collected() -> int:
    """Return how much the next of dom0's collectors got until the end."""
    with socket.create_connection(REPORT, 60) as report:
        return int.from_bytes(receive(report, 8), "big")
