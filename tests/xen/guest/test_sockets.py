"""What a program sees of its sockets, the same whoever plays the two ends; what differs is marked with whose it is."""

from __future__ import annotations

import errno
from contextlib import closing

import pytest
from faults import STALL
from sockets import ECHO, FIRST_PORT, NOBODY, Sockets, receive


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


@pytest.mark.fault_of("back:linux-stock", reason=STALL, always=False)
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


@pytest.mark.only("front:linux")
def test_sixty_connections_at_once(sockets: Sockets) -> None:
    connections = [sockets.connect(ECHO) for _ in range(60)]
    try:
        for number, connection in enumerate(connections):
            connection.sendall(b"number %02d" % number)
        for number, connection in enumerate(connections):
            assert receive(connection, 9) == b"NUMBER %02d" % number
    finally:
        for connection in connections:
            connection.close()
