"""What guests may reach: rules over calls and addresses, first match wins.

A rule is ``[CALL:]NETWORK[:PORTS]``: CALL is ``connect`` or ``bind`` (both where left out), NETWORK an IPv4 address or
network, ``own`` for whatever stays on this host (127/8, 0.0.0.0/8, the host's own addresses), or ``any``; PORTS a TCP
port number or a range ``1024-65535``. A rule on 127/8 also covers 0.0.0.0, which reaches the same listeners.

By default a connect to this host reaches only what guests listen on, link-local destinations and binds below 1024 are
refused, and the rest is allowed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from refimpl.backend.network import is_own_address
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import CommandRefused, Misuse

CALLS = ("connect", "bind")
_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
_THIS_HOST = ipaddress.IPv4Network("0.0.0.0/8")
_LINK_LOCAL = ipaddress.IPv4Network("169.254.0.0/16")
_ALL_PORTS = range(0, 65536)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; ``network`` is None for any address, ``"own"`` for this host's."""

    allow: bool
    text: str
    calls: tuple[str, ...] = CALLS
    network: ipaddress.IPv4Network | str | None = None
    ports: range = _ALL_PORTS

    @classmethod
    def parse(cls, text: str, *, allow: bool) -> Self:
        """Read ``[CALL:]NETWORK[:PORTS]``. Raises Misuse saying what is wrong."""
        parts = text.strip().split(":")
        calls = (parts.pop(0),) if parts[0] in CALLS else CALLS
        if not 1 <= len(parts) <= 2:
            raise Misuse(f"rule {text!r} is not [connect:|bind:]NETWORK[:PORTS], as in connect:127.0.0.1:8000-8080")
        ports = _parse_ports(text, parts[1]) if len(parts) == 2 else _ALL_PORTS
        return cls(allow, text, calls, _parse_network(text, parts[0]), ports)

    def matches(self, call: str, address: InternetAddress) -> bool:
        """Say whether the rule speaks of this call to this address."""
        if call not in self.calls or address.port_number not in self.ports:
            return False
        if self.network is None:
            return True
        if isinstance(self.network, str):
            return is_own_address(address.host)
        host = ipaddress.IPv4Address(address.host)
        return host in self.network or (host in _THIS_HOST and self.network.overlaps(_LOOPBACK))  # SEC-B-15


def _parse_network(text: str, network: str) -> ipaddress.IPv4Network | str | None:
    if network in ("any", "*"):
        return None
    if network == "own":
        return network
    try:
        return ipaddress.IPv4Network(network)
    except ValueError as error:
        raise Misuse(f"rule {text!r}: {network!r} is no IPv4 address, network, 'own' or 'any' ({error})") from None


def _parse_ports(text: str, ports: str) -> range:
    first, dash, last = ports.partition("-")
    try:
        if not ports.isascii() or not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError
        parsed = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        raise Misuse(f"rule {text!r}: {ports!r} is no TCP port number or range like 1024-65535") from None
    if not parsed or parsed[-1] > 65535:
        raise Misuse(f"rule {text!r}: {ports!r} is not within 0-65535, lowest first")
    return parsed


class Policy:
    """Ordered rules, then the defaults; a refusal is EACCES, says which rule it was, and what would allow the call."""

    def __init__(self, rules: Sequence[Rule] = (), *, allow_everything: bool = False) -> None:
        self.rules = tuple(rules)
        self.allow_everything = allow_everything

    def check(
        self, call: str, address: InternetAddress, *, guest_listens_on: Callable[[int], bool] = lambda _port: False
    ) -> None:
        """Raise CommandRefused(EACCES) unless the call is allowed.

        ``guest_listens_on(port_number)`` says whether some guest of this backend listens there.
        """
        for rule in self.rules:
            if rule.matches(call, address):
                if rule.allow:
                    return
                self._refuse(call, address, f"rule {rule.text!r} denies it")
        if not self.allow_everything:
            self._check_defaults(call, address, guest_listens_on)

    def _check_defaults(self, call: str, address: InternetAddress, guest_listens_on: Callable[[int], bool]) -> None:
        if call == "bind":
            if 0 < address.port_number < 1024:  # E-PRIVPORT
                self._refuse(call, address, "the default denies binds below 1024")
            return
        if ipaddress.IPv4Address(address.host) in _LINK_LOCAL:  # SEC-B-15
            self._refuse(call, address, "the default denies link-local addresses")
        if is_own_address(address.host) and not guest_listens_on(address.port_number):  # SEC-B-15, RAT-7
            self._refuse(call, address, "the default denies this host's own services")

    @staticmethod
    def _refuse(call: str, address: InternetAddress, why: str) -> None:
        remedy = f"--allow {call}:{address.host}:{address.port_number} would allow it"
        raise CommandRefused(ErrorNumber.EACCES, f"{call} {address}: {why}; {remedy}")  # RAT-4
