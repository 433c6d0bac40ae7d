"""The system's sockets, and their errors as the wire's numbers."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import textwrap

import pytest

from refimpl.backend import network
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import CommandRefused
from refimpl.ready import is_readable, is_writable


def listening() -> tuple[socket.socket, InternetAddress]:
    opened = network.open_socket()
    network.bind(opened, InternetAddress("127.0.0.1", 0))
    network.listen(opened, 5)
    return opened, network.local_address(opened)


def await_writable(waiting: socket.socket) -> None:
    assert is_writable(waiting, 30)


@pytest.mark.spec("CONNECT-1", "ACCEPT-1", "LISTEN-1", "BIND-1")
def test_a_connection_is_made_and_accepted_without_blocking() -> None:
    listener, address = listening()
    with listener, network.open_socket() as client:
        assert not network.has_connection(listener)
        assert network.accept(listener) is None
        if not network.start_connect(client, address):
            await_writable(client)
            network.finish_connect(client, address)
        assert is_readable(listener, 30)
        assert network.has_connection(listener)
        accepted = network.accept(listener)
        assert accepted is not None
        with accepted:
            network.set_stream_options(accepted)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            accepted.send(b"hello")
            assert is_readable(client, 30)
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
        assert is_readable(listener, 30)
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


@pytest.mark.security("SEC-B-15")
def test_an_interfaces_address_is_the_hosts_own_and_its_neighbours_is_not() -> None:
    """Whatever network there is: in a namespace of our own."""
    program = """
        import subprocess, sys
        from refimpl.backend import network
        for words in ("link set lo up", "addr add 198.51.100.7/32 dev lo", "addr add 198.51.100.8/32 dev lo"):
            subprocess.run(["ip", *words.split()], check=True)
        print(*map(network.is_own_address, sys.argv[1:]))
    """
    hosts = ["198.51.100.7", "198.51.100.8", "198.51.100.9", "224.0.0.1", "203.0.113.1"]
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("packages iproute2 and util-linux are not installed")
    command = ["unshare", "--net", "--map-root-user", sys.executable, "-c", textwrap.dedent(program), *hosts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "unshare failed" in done.stderr:
        pytest.skip("this user may make no network namespace")
    assert done.stdout.split() == ["True", "True", "False", "False", "False"], done.stderr


@pytest.mark.security("SEC-B-6")
def test_whose_an_address_is_needs_no_descriptor() -> None:
    network.own_address_probe()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        assert not network.is_own_address("192.0.2.77")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
