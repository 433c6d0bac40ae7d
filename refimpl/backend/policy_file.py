"""A policy as a TOML file.

    allow_everything = true         # no defaults; left out: false

    [[rule]]                        # the first that matches decides; what none matches is up to the defaults
    name = "no mail"                # for messages; left out: what the rule says
    action = "deny"                 # or allow, rewrite
    guest = [3, 4]                  # left out: every guest
    call = "connect"                # or a list; left out: connect and bind, or of no address all but release
    address = "10.0.0.0/8"          # an address, a network, "own" or "any"
    ports = "25"                    # or 25, or "1-1023"
    error = "ECONNREFUSED"          # of deny; left out: EACCES
    to = "192.0.2.1:2525"           # of rewrite: a new address, port (":2525") or both

    [limits]                        # of every guest: members of Limits
    sockets = 100
    bytes_per_second = 1_000_000

    [limits.guest3]                 # of guest 3 alone
    sockets = 10

All that is wrong is said at once, a line for each, with the file's line: ``policy.toml:4: ...``.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from refimpl.backend.limits import Limits
from refimpl.backend.policy import Policy
from refimpl.backend.rules import (
    ALL_PORTS,
    CALLS,
    CALLS_UNLESS_NAMED,
    CALLS_WITH_ADDRESS,
    Action,
    Rule,
    parse_guest,
    parse_network,
    parse_ports,
    split_call,
)
from refimpl.backend.toml_lines import TomlLines, line_of_syntax_error
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import Misuse

_TOP_KEYS = ("rule", "limits", "allow_everything")
_RULE_KEYS = ("name", "action", "guest", "call", "address", "ports", "error", "to")
_LIMITS = {field.name: field for field in dataclasses.fields(Limits)}
#: What there is instead is listed so far.
_MOST_NAMED = 15
_ERRORS = [number.name for number in ErrorNumber]


def read_policy(path: str | os.PathLike[str], *, first: Sequence[Rule] = (), allow_everything: bool = False) -> Policy:
    """Read a policy file; the rules ``first`` stand before the file's. Raises Misuse naming file and line."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # Some editors begin a file with a mark.
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    return parse_policy(text, str(path), first=first, allow_everything=allow_everything)


def parse_policy(text: str, path: str, *, first: Sequence[Rule] = (), allow_everything: bool = False) -> Policy:
    """Read the text of a policy file; ``path`` is for messages. Raises Misuse naming file and line."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Misuse(f"{path}:{line_of_syntax_error(error, text)}: {error}") from None
    except (ValueError, RecursionError) as error:  # A number of thousands of digits, a thousand brackets.
        raise Misuse(f"{path}: more than TOML is meant for: {error}") from None
    reader = _Reader(path, TomlLines(text))
    policy = reader.read(table, first, allow_everything)
    if reader.problems:
        raise Misuse("\n".join(f"{path}:{line}: {problem}" for line, problem in sorted(reader.problems)))
    return policy


class _Reader:
    """Turns the parsed table into a policy, and collects what is wrong with it."""

    def __init__(self, path: str, lines: TomlLines) -> None:
        self._path = path
        self._lines = lines
        self.problems: list[tuple[int, str]] = []

    def read(self, table: dict[str, Any], first: Sequence[Rule], allow_everything: bool) -> Policy:
        self._check_keys(table, _TOP_KEYS, "a policy", "")
        everything = table.get("allow_everything", False)
        if not isinstance(everything, bool):
            self._say("", "allow_everything", f"allow_everything is true or false, not {everything!r}")
        entries = table.get("rule", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self._say("", "rule", "a rule is a table of its own, under [[rule]]")
            entries = []
        rules = [self._read_rule(number, entry) for number, entry in enumerate(entries, 1)]
        return Policy(
            [*first, *(rule for rule in rules if rule is not None)],
            allow_everything=allow_everything or everything is True,
            limits=self._read_limits(table.get("limits", {})),
        )

    def _say(self, section: str, key: str | None, problem: str) -> None:
        self.problems.append((self._lines.find(section, key), problem))

    def _check_keys(self, table: Iterable[str], known: Sequence[str], what: str, section: str) -> None:
        for key in table:
            if key not in known:
                self._say(section, key, f"{key!r} is no key of {what}; {_meant(key, known)}")

    def _read_rule(self, number: int, entry: dict[str, Any]) -> Rule | None:
        """Return the rule, or None where something is wrong with it."""
        section = f"rule {number}"
        before = len(self.problems)
        self._check_keys(entry, _RULE_KEYS, "a rule", section)
        if "action" not in entry:
            self._say(section, None, "a rule has an action: allow, deny or rewrite")
            return None

        def value(key: str, parse: Callable[[Any], Any], default: Any = None) -> Any:
            try:
                return parse(entry[key]) if key in entry else default
            except ValueError as error:
                self._say(section, key, f"{key}: {error}")
                return default

        has_address = "address" in entry or "ports" in entry
        action = value("action", lambda v: Action(_one_of(v, [a.value for a in Action])))
        addressed = has_address or action is Action.REWRITE
        calls = value("call", _parse_calls, CALLS_WITH_ADDRESS if addressed else CALLS_UNLESS_NAMED)
        host, port_number = value("to", _parse_new_address, (None, None))
        rule = Rule(
            action or Action.DENY,
            value("name", _parse_name) or _describe(entry),
            f"{self._path}:{self._lines.find(section, None)}",
            value("guest", _parse_guests),
            calls,
            value("address", lambda v: parse_network(_text(v))),
            value("ports", lambda v: parse_ports(str(v) if type(v) is int else _text(v)), ALL_PORTS),
            value("error", lambda v: ErrorNumber[_one_of(v, _ERRORS)], ErrorNumber.EACCES),
            host,
            port_number,
        )
        self._check_together(section, entry, rule, addressed)
        return rule if len(self.problems) == before else None

    def _check_together(self, section: str, entry: dict[str, Any], rule: Rule, addressed: bool) -> None:
        """Say which keys do not go together."""
        if addressed and not set(rule.calls) <= set(CALLS_WITH_ADDRESS):
            odd = next(call for call in rule.calls if call not in CALLS_WITH_ADDRESS)
            self._say(section, "call", f"call: {odd} has no address; only connect and bind have")
        if "error" in entry and rule.action is not Action.DENY:
            self._say(
                section, "error", f'error: only a rule with action = "deny" has one, and this is {entry["action"]!r}'
            )
        if ("to" in entry) is not (rule.action is Action.REWRITE):
            self._say(section, "to", 'to: a rule with action = "rewrite" has it, and no other')

    def _read_limits(self, table: Any) -> dict[int | None, dict[str, float]]:
        if not isinstance(table, dict):
            self._say("", "limits", "limits are a table: [limits], [limits.guest3]")
            return {}
        limits: dict[int | None, dict[str, float]] = {None: self._read_some_limits("limits", table)}
        for key, value in table.items():
            if isinstance(value, dict):
                try:
                    guests, calls, rest = split_call(key)
                    if guests is None or calls or rest:
                        raise ValueError(f"[limits.{key}]: a guest's limits are under [limits.guestN]")
                    if min(guests) in limits:
                        raise ValueError(f"[limits.{key}]: guest {min(guests)} has limits already")
                    limits[min(guests)] = self._read_some_limits(f"limits.{key}", value)
                except ValueError as error:
                    self._say(f"limits.{key}", None, str(error))
        return limits

    def _read_some_limits(self, section: str, table: dict[str, Any]) -> dict[str, float]:
        limits: dict[str, float] = {}
        for key, value in table.items():
            if isinstance(value, dict) and section == "limits":
                continue
            if key not in _LIMITS:
                self._say(section, key, f"{key!r} is no limit; {_meant(key, list(_LIMITS))}")
                continue
            is_time = key.endswith("_seconds")
            least = 1 if key == "bytes_per_second" else 0
            allowed_types = (int, float) if is_time else (int,)
            if type(value) not in allowed_types or not least <= value < 1 << 63:
                kind = "a time in seconds" if is_time else f"a whole number from {least} on"
                self._say(section, key, f"{key} is {kind}, not {value!r}")
                continue
            limits[key] = value
        return limits


def _meant(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    some = known if len(known) <= _MOST_NAMED else [*known[:_MOST_NAMED], f"{len(known) - _MOST_NAMED} more"]
    return f"there are {', '.join(some)}"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text in quotes, not {value!r}")
    return value


def _one_of(value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none; {_meant(str(value), known)}")
    return str(value)


def _parse_name(value: Any) -> str:
    if not _text(value).isprintable() or not value:
        raise ValueError("one line of text")
    return str(value)


def _parse_calls(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("a list of no calls matches nothing")
    return tuple(_one_of(call, CALLS) for call in values)


def _parse_guests(value: Any) -> frozenset[int]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(type(guest) is int for guest in values):
        raise ValueError(f"a domid or a list of them, not {value!r}")
    return frozenset(parse_guest(guest) for guest in values)


def _parse_new_address(value: Any) -> tuple[str | None, int | None]:
    host, colon, port = _text(value).partition(":")
    if not (host or port) or (colon and not (port.isascii() and port.isdigit() and len(port) <= 5)):
        raise ValueError(f"{value!r} is no address, as in 192.0.2.1, 192.0.2.1:80 or :80")
    if port and not int(port):
        raise ValueError(f"{value!r}: nothing listens on port 0")
    InternetAddress(host or "0.0.0.0", int(port or 0)).to_bytes()
    return host or None, int(port) if port else None


def _describe(entry: dict[str, Any]) -> str:
    """Return what a rule without a name is called: what it says."""
    said = [f"{key} {entry[key]}" for key in ("guest", "call", "address", "ports") if key in entry]
    return ", ".join(said) or "every call"
