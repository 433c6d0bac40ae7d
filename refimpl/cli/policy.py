"""``refimpl policy``: look at a policy file without a backend."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from refimpl.cli.options import json_option
from refimpl.commands.address_format import InternetAddress
from refimpl.errors import Misuse

if TYPE_CHECKING:
    from refimpl.backend import Call


@click.group()
def policy() -> None:
    """Check a policy file, or ask what it says of a call.

    A policy file has rules, of which the first that matches a guest's call decides, and limits:

    \b
        [[rule]]
        name = "no mail"
        action = "deny"              # allow, deny, rewrite
        guest = [3, 4]               # left out: every guest
        call = "connect"             # one of the seven or a list of them
        address = "any"              # an address, a network, "own", "any"
        ports = "25"
        error = "ECONNREFUSED"       # left out: EACCES

    \b
        [[rule]]
        action = "rewrite"
        call = "connect"
        address = "192.0.2.1"
        to = "127.0.0.1:8080"

    \b
        [limits]                     # of every guest; [limits.guest3] of one
        sockets = 100
        listeners = 4
        pending_connects = 8
        bytes_per_second = 1_000_000 # of all its sockets together, both directions

    A socket that is released under bytes_per_second is still sent empty at that rate, for 120 seconds at most: what is
    left then is lost.

    What no rule matches is up to the defaults (see `refimpl backend --help`), unless allow_everything = true stands at
    the top. A backend reads the file again when it gets SIGHUP; connections go on, and a bad file changes nothing.
    """


@policy.command()
@click.argument("path", metavar="FILE")
def check(path: str) -> None:
    """Say whether FILE is a policy; if not, each mistake with its line, and exit status 2."""
    from refimpl.backend.policy_file import read_policy

    read = read_policy(path)
    guests = sum(guest is not None for guest in read.limits)
    print(f"{path}: {len(read.rules)} rules, limits of {guests} guests; right")


@policy.command()
@click.argument("path", metavar="FILE")
@click.argument("calls", metavar="CALL...", nargs=-1, required=True)
@click.option(
    "--listening",
    metavar="[ADDRESS:]PORT",
    multiple=True,
    help="Take it that a guest listens there, with no ADDRESS on all of this host; may be repeated.",
)
@json_option
def test(path: str, calls: tuple[str, ...], listening: tuple[str, ...], as_json: bool) -> int:
    """Say what FILE makes of each CALL, and which rule decides. Exit status 1 if one is refused.

    \b
    CALL is [guestN:]CALL[:ADDRESS:PORT]; without a guest it is guest 1's:
        refimpl policy test policy.toml guest3:connect:192.0.2.1:25 listen
    """
    from refimpl.backend.listeners import Listeners
    from refimpl.backend.policy_file import read_policy
    from refimpl.commands.error_numbers import name_of

    read, any_refused = read_policy(path), False
    listeners = Listeners(map(_parse_listener, listening))
    for call in map(_parse_call, calls):
        decision = read.decide(call, guest_listens_on=listeners.reached_by)
        error = None if decision.error_number is None else name_of(decision.error_number)
        elsewhere = None if decision.address is None else str(decision.address)
        any_refused |= error is not None
        if as_json:
            said = {"guest": call.guest, "call": str(call), "error": error, "rewritten_to": elsewhere}
            print(json.dumps({**said, "why": decision.why}))
        else:
            verdict = f"refused, {error}" if error else f"goes to {elsewhere}" if elsewhere else "allowed"
            print(f"guest {call.guest} {call}: {verdict}: {decision.why.removeprefix(f'{call}: ')}")
    return int(any_refused)


def _parse_listener(text: str) -> InternetAddress:
    host, colon, port = text.rpartition(":")
    try:
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535 and bool(host) == bool(colon)):
            raise Misuse("not [ADDRESS:]PORT with a PORT from 1 to 65535, as in 8080 or 127.0.0.1:8080")
        address = InternetAddress(host or "0.0.0.0", int(port))
        address.to_bytes()
    except Misuse as error:
        raise Misuse(f"--listening {text!r}: {error}") from None
    return address


def _parse_call(text: str) -> Call:
    from refimpl.backend import Call
    from refimpl.backend.rules import CALLS_WITH_ADDRESS, split_call

    try:
        guests, names, rest = split_call(text)
        if not names or len(rest) != (2 if names[0] in CALLS_WITH_ADDRESS else 0):
            raise ValueError("not [guestN:]CALL[:ADDRESS:PORT], as in guest3:connect:192.0.2.1:25 or listen")
        address = None
        if rest:
            if not (rest[1].isascii() and rest[1].isdigit()):
                raise ValueError(f"{rest[1]!r} is no TCP port number")
            address = InternetAddress(rest[0], int(rest[1]))
            address.to_bytes()
    except ValueError as error:
        raise Misuse(f"call {text!r}: {error}") from None
    return Call(min(guests) if guests else 1, names[0], address)
