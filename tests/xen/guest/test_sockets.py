"""What a program sees of its sockets, the same whoever plays the two ends; what differs is marked with whose it is."""

from __future__ import annotations

import errno
import hashlib
import random
import socket
import threading
from contextlib import closing

import pytest
from conftest import FRONT
from sockets import Sockets

#: dom0's services (dom0/services.py), as the backend reaches them and as we do without PV Calls.
ECHO = ("127.0.0.1", 7001)
HASH = ("127.0.0.1", 7002)
SOURCE = ("127.0.0.1", 7003)
CALL_BACK = ("10.57.0.1", 7004)
NOBODY = ("127.0.0.1", 1)
#: Of our listeners: other ones for the next frontend, since Linux's backend cannot bind to a port just used.
FIRST_PORT = {"refimpl": 7100, "linux": 7200}[FRONT]

#: test_stall.py shows it each time; in these tests it comes and goes.
STALL = "Linux before 6.3 leaves a channel masked after an event that finds nothing to send (LB-5)"

UNEXPLAINED = (
    "twice in nine runs what an accepted socket of Linux's frontend sent first never left, with either backend"
)
END_LOST = "Linux does not tell the end of a stream that it reads together with the last bytes (LB-20)"


def receive(connection: socket.socket, count: int) -> bytes:
    """Receive exactly so many bytes, or what comes before the end."""
    received = bytearray()
    while len(received) < count:
        chunk = connection.recv(min(count - len(received), 65536))
        if not chunk:
            break
        received += chunk
    return bytes(received)


def test_both_ends_connect(sockets: Sockets) -> None:
    from refimpl.store.client import StoreClient

    with closing(StoreClient.connect_device()) as store:
        assert store.read("device/pvcalls/0/state") == b"4"
        backend = store.read("device/pvcalls/0/backend").decode()
        assert store.read(f"{backend}/state") == b"4"


@pytest.mark.spec("SOCKET-2", "CONNECT-2", "CONNECT-3", "CONNECT-4")
def test_echo(sockets: Sockets) -> None:
    with closing(sockets.connect(ECHO)) as connection:
        connection.sendall(b"hello over grants")
        assert receive(connection, 17) == b"HELLO OVER GRANTS"


@pytest.mark.fault_of("back:linux", STALL, always=False)
def test_fifty_requests_and_responses(sockets: Sockets) -> None:
    with closing(sockets.connect(ECHO)) as connection:
        connection.settimeout(3)
        for number in range(50):
            connection.sendall(b"request %d" % number)
            assert receive(connection, len(b"request %d" % number)) == b"REQUEST %d" % number


def test_connection_to_nobody_is_refused(sockets: Sockets) -> None:
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            sockets.connect(NOBODY)


@pytest.mark.spec("WORKFLOW-9", "WORKFLOW-10", "WORKFLOW-11", "WORKFLOW-14")
@pytest.mark.fault_of("back:linux", END_LOST)
@pytest.mark.fault_of("back:linux-fixed", END_LOST)
def test_peer_that_sends_and_closes_is_heard_to_the_end(sockets: Sockets) -> None:
    """Data, then the end of the stream: never the other way round, and never only one of them."""
    for count in (1, 1000, 32767, 32768, 32769, 200_000):
        with closing(sockets.connect(SOURCE)) as connection:
            connection.sendall(count.to_bytes(8, "big"))
            received = receive(connection, count + 1)
            assert len(received) == count
            assert hashlib.sha256(received).digest() == hashlib.sha256(random.Random(count).randbytes(count)).digest()


@pytest.mark.spec("WORKFLOW-1", "WORKFLOW-4", "WORKFLOW-6", "WORKFLOW-8")
@pytest.mark.fault_of("back:linux", STALL, always=False)
def test_bulk_both_ways_at_once(sockets: Sockets) -> None:
    data = random.Random(4).randbytes(2 << 20)
    with closing(sockets.connect(ECHO)) as connection:
        sending = threading.Thread(target=connection.sendall, args=(data,), daemon=True)
        sending.start()
        received = receive(connection, len(data))
        sending.join(20)
    assert len(received) == len(data)
    assert hashlib.sha256(received).digest() == hashlib.sha256(data.upper()).digest()


@pytest.mark.fault_of("back:linux", STALL, always=False)
def test_bulk_out(sockets: Sockets) -> None:
    data = random.Random(5).randbytes(1 << 20)
    with closing(sockets.connect(HASH)) as connection:
        connection.sendall(len(data).to_bytes(8, "big"))
        connection.sendall(data)
        assert receive(connection, 32) == hashlib.sha256(data).digest()


@pytest.mark.fault_of("back:linux", STALL, always=False)
@pytest.mark.fault_of("front:linux", UNEXPLAINED, always=False)
def test_listen_and_accept_a_connection_from_outside(sockets: Sockets) -> None:
    with (
        closing(sockets.listen(("0.0.0.0", FIRST_PORT + 1))) as listener,
        socket.create_connection(CALL_BACK, 20) as caller,
    ):
        caller.sendall((FIRST_PORT + 1).to_bytes(2, "big"))
        with closing(sockets.accept(listener)) as accepted:
            assert receive(accepted, 5) == b"knock"
            accepted.sendall(b"who is there?")
            assert receive(caller, 13) == b"who is there?"


@pytest.mark.spec("BIND-2", "ACCEPT-2", "ACCEPT-3", "ACCEPT-4")
@pytest.mark.fault_of("back:linux", STALL, always=False)
def test_listen_and_accept_our_own_connection(sockets: Sockets) -> None:
    with closing(sockets.listen(("127.0.0.1", FIRST_PORT + 2))) as listener:
        for turn in range(3):
            with (
                closing(sockets.connect(("127.0.0.1", FIRST_PORT + 2))) as near,
                closing(sockets.accept(listener)) as far,
            ):
                near.sendall(b"there %d" % turn)
                assert receive(far, 7) == b"there %d" % turn
                far.sendall(b"and back")
                assert receive(near, 8) == b"and back"


@pytest.mark.spec("RELEASE-5")
def test_close_is_seen_by_the_peer(sockets: Sockets) -> None:
    with closing(sockets.listen(("127.0.0.1", FIRST_PORT + 3))) as listener:
        near = sockets.connect(("127.0.0.1", FIRST_PORT + 3))
        with closing(sockets.accept(listener)) as far:
            near.close()
            assert far.recv(1) == b""


def test_address_in_use(sockets: Sockets) -> None:
    with closing(sockets.listen(("127.0.0.1", FIRST_PORT + 4))), pytest.raises(OSError) as caught:
        sockets.listen(("127.0.0.1", FIRST_PORT + 4)).close()
    # Linux's frontend ignores the response to BIND, and then LISTEN is refused.
    assert caught.value.errno in (errno.EADDRINUSE, errno.EINVAL)


@pytest.mark.only("front:refimpl")
def test_sixty_connections_and_the_limit_of_gntalloc(sockets: Sockets) -> None:
    """Linux lets a domain grant 1024 pages: 60 data rings of order 4; past that the error says what to raise."""
    connections = []
    try:
        with pytest.raises(OSError, match="xen_gntalloc/parameters/limit"):
            while len(connections) < 100:
                connections.append(sockets.connect(ECHO))
        assert len(connections) >= 60
        connections.pop().close()
        connections.append(sockets.connect(ECHO))
        for number, connection in enumerate(connections):
            connection.sendall(b"number %02d" % number)
        for number, connection in enumerate(connections):
            assert receive(connection, 9) == b"NUMBER %02d" % number
    finally:
        for connection in connections:
            connection.close()


def test_twenty_connections_at_once(sockets: Sockets) -> None:
    connections = [sockets.connect(ECHO) for _ in range(20)]
    try:
        for number, connection in enumerate(connections):
            connection.sendall(b"number %02d" % number)
        for number, connection in enumerate(connections):
            assert receive(connection, 9) == b"NUMBER %02d" % number
    finally:
        for connection in connections:
            connection.close()
