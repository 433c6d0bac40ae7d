"""Where guests listen: what decides whether a connect to this host reaches a guest or the host's own services."""

from __future__ import annotations

import collections
import ipaddress
from collections.abc import Iterable

from refimpl.commands.address_format import InternetAddress

_ANY = "0.0.0.0"
_LOOPBACK = "127.0.0.1"
_THIS_HOST = ipaddress.IPv4Network("0.0.0.0/8")


class Listeners:
    """The addresses guests' sockets listen on, each as often as there are sockets; as the system names them."""

    def __init__(self, addresses: Iterable[InternetAddress] = ()) -> None:
        self._sockets = collections.Counter(addresses)

    def add(self, address: InternetAddress) -> None:
        """Take note of a socket that listens."""
        self._sockets[address] += 1

    def remove(self, address: InternetAddress) -> None:
        """Take note of its end."""
        self._sockets[address] -= 1
        if not self._sockets[address]:
            del self._sockets[address]

    def reached_by(self, address: InternetAddress) -> bool:
        """Say whether a connect to an address of this host meets a guest's socket, and nobody else's.

        The system lets nobody listen on one address of a port while another listens on all of them.
        """
        # To 0.0.0.0 means to 127.0.0.1.
        host = _LOOPBACK if ipaddress.IPv4Address(address.host) in _THIS_HOST else address.host
        port_number = address.port_number
        listening = self._sockets
        return InternetAddress(host, port_number) in listening or InternetAddress(_ANY, port_number) in listening
