"""A rule of the policy: whose call, which call, to where; and what then.

In text a rule is ``[guestN:][CALL:]NETWORK[:PORTS]``, or without a network ``guestN``, ``CALL`` or ``guestN:CALL``.
CALL is one of the seven, in small letters; only ``connect`` and ``bind`` have an address, and a rule with an address
and no CALL speaks of both. NETWORK is an IPv4 address or network, ``own`` for whatever stays on this host (127/8,
0.0.0.0/8, the host's own addresses), or ``any``; PORTS a TCP port number or a range ``1024-65535``.

Whoever listens on all addresses is reached by any of them. So a denial whose network has some of loopback also covers
0.0.0.0 and the host's own addresses; what is allowed, or sent elsewhere, covers 0.0.0.0 where it covers 127.0.0.1
(what 0.0.0.0 means), and the host's own addresses where it covers all of loopback. A bind on loopback that is allowed
is never one on them, which would open it to the network.

A release is covered only by a rule that names it: who may not release keeps what he has.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from refimpl.backend.network import is_own_address
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import Misuse

CALLS = ("socket", "connect", "release", "bind", "listen", "accept", "poll")
CALLS_WITH_ADDRESS = ("connect", "bind")
CALLS_UNLESS_NAMED = tuple(name for name in CALLS if name != "release")
ALL_PORTS = range(0, 65536)
LARGEST_DOMID = 0x7FEF
_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
_FIRST_LOOPBACK = _LOOPBACK[1]
_THIS_HOST = ipaddress.IPv4Network("0.0.0.0/8")
_GUEST = re.compile(r"guest([0-9]{1,5})", re.ASCII)

Network = ipaddress.IPv4Network | str | None


class Action(Enum):
    """What a rule does with a call."""

    ALLOW = "allow"
    DENY = "deny"
    REWRITE = "rewrite"


@dataclass(frozen=True, slots=True)
class Call:
    """A guest's call as the policy sees it, before anything of it is done.

    ``name`` is the command's in small letters, ``address`` what CONNECT and BIND name (None for the others, and for
    one that is malformed: the command itself refuses that), ``request`` the request's own structure.
    """

    guest: int
    name: str
    address: InternetAddress | None = None
    request: Any = None

    def __str__(self) -> str:
        return self.name if self.address is None else f"{self.name} {self.address}"

    def to_rule_text(self) -> str:
        """Return the text of a rule that speaks of just such calls."""
        return self.name if self.address is None else f"{self.name}:{self.address}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``guests`` is None for all of them, ``network`` None for any address, ``"own"`` for this host's.

    ``text`` says what it speaks of and ``origin`` where it stands (``"--deny"``, ``"policy.toml:12"``), for messages.
    What REWRITE leaves None stays as the guest has it.
    """

    action: Action
    text: str
    origin: str = ""
    guests: frozenset[int] | None = None
    calls: tuple[str, ...] = CALLS_UNLESS_NAMED
    network: Network = None
    ports: range = ALL_PORTS
    error_number: ErrorNumber = ErrorNumber.EACCES
    new_host: str | None = None
    new_port_number: int | None = None

    @classmethod
    def parse(cls, text: str, *, allow: bool, origin: str = "") -> Self:
        """Read a rule's text. Raises Misuse saying what is wrong."""
        try:
            guests, calls, network, ports = _parse(text.strip())
        except ValueError as error:
            raise Misuse(f"{origin or 'rule'} {text!r}: {error}") from None
        return cls(Action.ALLOW if allow else Action.DENY, text, origin, guests, calls, network, ports)

    def __str__(self) -> str:
        return f"rule {self.text!r}" + (f" ({self.origin})" if self.origin else "")

    def matches(self, call: Call) -> bool:
        """Say whether the rule speaks of this call."""
        if call.name not in self.calls or (self.guests is not None and call.guest not in self.guests):
            return False
        if self.network is None and self.ports == ALL_PORTS:
            return True
        if call.address is None or call.address.port_number not in self.ports:
            return False
        return self._covers(call.address.host, call.name)

    def _covers(self, host: str, call: str) -> bool:
        if self.network is None:
            return True
        if isinstance(self.network, str):
            return is_own_address(host)
        address = ipaddress.IPv4Address(host)
        if address in self.network:
            return True
        if not self.network.overlaps(_LOOPBACK) or (call == "bind" and self.action is Action.ALLOW):
            return False
        if self.action is Action.DENY:
            return address in _THIS_HOST or is_own_address(host)  # SEC-B-15
        if address in _THIS_HOST:
            return _FIRST_LOOPBACK in self.network  # SEC-B-15
        return _LOOPBACK.subnet_of(self.network) and is_own_address(host)  # SEC-B-15

    def rewritten(self, address: InternetAddress) -> InternetAddress:
        """Return the address a call gets instead of its own."""
        port_number = address.port_number if self.new_port_number is None else self.new_port_number
        return InternetAddress(self.new_host or address.host, port_number)


def _parse(text: str) -> tuple[frozenset[int] | None, tuple[str, ...], Network, range]:
    guests, calls, rest = split_call(text)
    if not rest and (guests or calls):
        return guests, calls or CALLS_UNLESS_NAMED, None, ALL_PORTS
    if calls and calls[0] not in CALLS_WITH_ADDRESS:
        raise ValueError(f"{calls[0]} has no address; of it a rule says just {calls[0]!r}")
    _check_word(rest[0])
    if len(rest) > 2:
        raise ValueError("not [guestN:][CALL:]NETWORK[:PORTS], as in connect:127.0.0.1:8000-8080")
    ports = parse_ports(rest[1]) if len(rest) == 2 else ALL_PORTS
    return guests, calls or CALLS_WITH_ADDRESS, parse_network(rest[0]), ports


def _check_word(word: str) -> None:
    """Raise ValueError for a word that was meant for a guest or a call."""
    if not word[:1].isalpha() or word in ("own", "any"):
        return
    close = difflib.get_close_matches(word, (*CALLS, "own", "any"), 1) or difflib.get_close_matches(
        word.rstrip("0123456789") or word, ("guest",), 1
    )
    meant = (
        f"did you mean {close[0] if close[0] != 'guest' else 'guestN'!r}?" if close else f"calls are {', '.join(CALLS)}"
    )
    raise ValueError(f"{word!r} is no guest (guestN, N a domid), call, address, 'own' or 'any'; {meant}")


def split_call(text: str) -> tuple[frozenset[int] | None, tuple[str, ...], list[str]]:
    """Take ``guestN:`` and ``CALL:`` off the front; return them and the other parts. Raises ValueError."""
    parts = text.split(":")
    guests: frozenset[int] | None = None
    calls: tuple[str, ...] = ()
    guest = _GUEST.fullmatch(parts[0])
    if guest is not None:
        guests = frozenset([parse_guest(guest[1])])
        parts.pop(0)
    if parts and parts[0] in CALLS:
        calls = (parts.pop(0),)
    return guests, calls, parts


def parse_guest(number: int | str) -> int:
    """Return a domid. Raises ValueError for what is none."""
    if not 0 <= int(number) <= LARGEST_DOMID:
        raise ValueError(f"{number} is no domid (0 to {LARGEST_DOMID})")
    return int(number)


def parse_network(network: str) -> Network:
    """Return what a rule's NETWORK means. Raises ValueError."""
    if network in ("any", "*"):
        return None
    if network == "own":
        return network
    try:
        return ipaddress.IPv4Network(network)
    except ValueError as error:
        try:
            meant = f"; did you mean {str(ipaddress.IPv4Network(network, strict=False))!r}?"
        except ValueError:
            meant = ""
        raise ValueError(f"{network!r} is no IPv4 address, network, 'own' or 'any' ({error}){meant}") from None


def parse_ports(ports: str) -> range:
    """Return what a rule's PORTS means. Raises ValueError."""
    first, dash, last = ports.partition("-")
    if not (ports.isascii() and first.isdigit() and (last.isdigit() or not dash) and len(ports) <= 11):
        raise ValueError(f"{ports!r} is no TCP port number or range like 1024-65535")
    parsed = range(int(first), int(last if dash else first) + 1)
    if not parsed or parsed[-1] > 65535:
        raise ValueError(f"{ports!r} is not within 0-65535, lowest first")
    return parsed
