"""The system's sockets, and their errors as the wire's numbers."""

from __future__ import annotations

import select
import socket

import pytest

from refimpl.backend import network
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import CommandRefused


def listening() -> tuple[socket.socket, InternetAddress]:
    opened = network.open_socket()
    network.bind(opened, InternetAddress("127.0.0.1", 0))
    network.listen(opened, 5)
    return opened, InternetAddress("127.0.0.1", network.local_port_number(opened))


def await_writable(waiting: socket.socket) -> None:
    assert select.select([], [waiting], [], 30)[1]


@pytest.mark.spec("CONNECT-1", "ACCEPT-1", "LISTEN-1", "BIND-1")
def test_a_connection_is_made_and_accepted_without_blocking() -> None:
    listener, address = listening()
    with listener, network.open_socket() as client:
        assert not network.has_connection(listener)
        assert network.accept(listener) is None
        if not network.start_connect(client, address):
            await_writable(client)
            network.finish_connect(client, address)
        assert select.select([listener], [], [], 30)[0]
        assert network.has_connection(listener)
        accepted = network.accept(listener)
        assert accepted is not None
        with accepted:
            network.set_stream_options(accepted)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            accepted.send(b"hello")
            assert select.select([client], [], [], 30)[0]
            assert client.recv(9) == b"hello"


@pytest.mark.spec("CONNECT-17")
def test_a_refused_connect_is_econnrefused() -> None:
    listener, address = listening()
    listener.close()
    with network.open_socket() as client, pytest.raises(CommandRefused) as refused:
        if not network.start_connect(client, address):
            await_writable(client)
            network.finish_connect(client, address)
    assert refused.value.error_number == ErrorNumber.ECONNREFUSED


@pytest.mark.spec("BIND-6")
@pytest.mark.parametrize(
    ("host", "error_number"), [("127.0.0.1", ErrorNumber.EADDRINUSE), ("192.0.2.77", ErrorNumber.EADDRNOTAVAIL)]
)
def test_a_bind_that_fails_says_why(host: str, error_number: ErrorNumber) -> None:
    listener, address = listening()
    with listener, network.open_socket() as second, pytest.raises(CommandRefused) as refused:
        network.bind(second, InternetAddress(host, address.port_number))
        network.listen(second, 1)
    assert refused.value.error_number == error_number


@pytest.mark.spec("RELEASE-2")
@pytest.mark.erratum("E-SOCKOPT")
def test_a_released_port_can_be_bound_again_at_once() -> None:
    listener, address = listening()
    with network.open_socket() as client:
        if not network.start_connect(client, address):
            await_writable(client)
        assert select.select([listener], [], [], 30)[0]
        accepted = network.accept(listener)
        assert accepted is not None
        accepted.close()  # Ours ends first: TIME_WAIT stays with this port.
        listener.close()
        with network.open_socket() as again:
            network.bind(again, address)
            network.listen(again, 1)


def test_a_reset_reaches_the_peer_as_one() -> None:
    listener, address = listening()
    with listener, socket.create_connection((address.host, address.port_number)) as client:
        accepted = network.accept(listener)
        assert accepted is not None
        network.reset(accepted)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.security("SEC-B-15")
@pytest.mark.parametrize(
    ("host", "is_own"), [("127.0.0.1", True), ("127.9.9.9", True), ("0.0.0.0", True), ("192.0.2.1", False)]
)
def test_own_addresses_are_told_from_others(host: str, is_own: bool) -> None:
    assert network.is_own_address(host) is is_own
