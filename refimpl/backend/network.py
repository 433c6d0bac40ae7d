"""The operating system's sockets, in the backend's own network: open, connect, bind, listen, accept.

Everything is non-blocking. Errors come out as CommandRefused with the wire's number.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import socket
import struct
from collections.abc import Iterator

from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber, to_wire
from refimpl.errors import CommandRefused
from refimpl.ready import is_readable

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandRefused(to_wire(error.errno), f"{what}: {error.strerror}") from error


def open_socket() -> socket.socket:
    """Make an IPv4 stream socket."""
    with _refusing("socket"):
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)  # SOCKET-1, RAT-5
        opened.setblocking(False)
        return opened


def start_connect(connecting: socket.socket, address: InternetAddress) -> bool:
    """Start to connect; True when that is already done, False when the socket will be writable once it is."""
    with _refusing(f"connect to {address}"):
        try:
            connecting.connect((address.host, address.port_number))  # CONNECT-1
        except BlockingIOError:
            return _is_connected_meanwhile(connecting, address)
    return True


def _is_connected_meanwhile(connecting: socket.socket, address: InternetAddress) -> bool:
    """Say whether a connect just begun is over: on this host the answer comes before the call returns."""
    try:
        connecting.connect((address.host, address.port_number))
    except BlockingIOError:  # EALREADY
        return False
    return True


def finish_connect(connecting: socket.socket, address: InternetAddress) -> None:
    """See how a connect under way ended. Raises CommandRefused."""
    error = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise CommandRefused(to_wire(error), f"connect to {address}")  # CONNECT-17
    with _refusing(f"connect to {address}"):
        connecting.getpeername()


def bind(bound: socket.socket, address: InternetAddress) -> None:
    """Give the socket an address of this host."""
    with _refusing(f"bind to {address}"):
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # E-SOCKOPT
        bound.bind((address.host, address.port_number))  # BIND-1, RAT-6


def listen(listener: socket.socket, backlog: int) -> None:
    """Make the socket passive."""
    with _refusing("listen"):
        listener.listen(backlog)  # LISTEN-1


def accept(listener: socket.socket) -> socket.socket | None:
    """Take the first pending connection; None while there is none."""
    while True:
        try:
            with _refusing("accept"):
                connection, _peer = listener.accept()  # ACCEPT-1
        except CommandRefused as refused:
            if refused.error_number == ErrorNumber.EAGAIN:
                return None  # ACCEPT-6
            if refused.error_number != ErrorNumber.ECONNABORTED:  # That one is gone: take the next.
                raise
        else:
            connection.setblocking(False)
            return connection


def has_connection(listener: socket.socket) -> bool:
    """Say whether a connection is queued, and leave it there."""
    return is_readable(listener, 0)


def set_stream_options(connection: socket.socket) -> None:
    """Set what the frontend has no way to ask for: small sends go out at once."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # E-SOCKOPT


def reset(connection: socket.socket) -> None:
    """Close so that the peer sees a reset, not an orderly end."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connection.close()


def local_address(bound: socket.socket) -> InternetAddress:
    """Return the address a bound socket has, also where the system chose its port number."""
    return InternetAddress(*bound.getsockname())


@functools.cache
def own_address_probe() -> socket.socket:
    """Return the socket that :func:`is_own_address` asks by: opened once, since a decision may need no descriptor."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def is_own_address(host: str) -> bool:
    """Say whether a connect to the address stays on this host: loopback, 0.0.0.0/8, or one of the host's own.

    Raises OSError where the system does not tell.
    """
    address = ipaddress.IPv4Address(host)
    if address.is_loopback or address in ipaddress.IPv4Network("0.0.0.0/8"):
        return True
    try:
        # Which interface has the address? Nothing is ever sent from this socket.
        own_address_probe().setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, address.packed)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        return False
    return True
