"""Rules as text: what they say, and what is said of those that are none."""

from __future__ import annotations

import pytest

from refimpl.backend.rules import CALLS_UNLESS_NAMED, Call, Rule
from refimpl.commands.address_format import InternetAddress
from refimpl.errors import Misuse


@pytest.mark.parametrize(
    ("text", "guests", "calls", "ports"),
    [
        ("any", None, ("connect", "bind"), range(65536)),
        ("10.0.0.0/8:25", None, ("connect", "bind"), range(25, 26)),
        ("connect:own:1024-65535", None, ("connect",), range(1024, 65536)),
        ("guest3:bind:any:80", {3}, ("bind",), range(80, 81)),
        ("guest3:connect", {3}, ("connect",), range(65536)),
        ("guest32751", {32751}, CALLS_UNLESS_NAMED, range(65536)),
        ("release", None, ("release",), range(65536)),
    ],
)
def test_what_a_rule_says(text: str, guests, calls, ports) -> None:
    rule = Rule.parse(text, allow=True)
    assert (rule.guests, rule.calls, rule.ports) == (guests, calls, ports)


@pytest.mark.parametrize(
    "text",
    ["", "connect:", "300.1.1.1", "10.0.0.1/8", "any:http", "any:1-", "any:2-1", "any:65536", "any:-1", "any:1:2",
     "listen:any", "::1", "any:٣", "any:1_0", "guest", "guest40000", "guest3:", "guest3:listen:any", "any:" + "1" * 99],
)  # fmt: skip
def test_a_rule_that_is_none_is_said_to_be(text: str) -> None:
    with pytest.raises(Misuse) as misuse:
        Rule.parse(text, allow=True)
    assert repr(text) in str(misuse.value)


def test_a_malformed_address_is_met_only_by_rules_that_speak_of_none() -> None:
    call = Call(1, "connect", None)
    assert Rule.parse("connect", allow=False).matches(call)
    assert not Rule.parse("connect:127.0.0.0/8", allow=False).matches(call)
    assert not Rule.parse("connect:any:1-65535", allow=False).matches(call)


def test_the_rule_for_just_this_call_is_read_back_as_such() -> None:
    for call in (Call(1, "connect", InternetAddress("192.0.2.1", 80)), Call(1, "listen")):
        assert Rule.parse(call.to_rule_text(), allow=True).matches(call)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("gest3:connect", "guestN"),
        ("guestx:connect", "guestN"),
        ("conect:1.2.3.4", "connect"),
        ("guest3:biind:any:80", "bind"),
        ("connect:onw:80", "own"),
    ],
)
def test_a_word_that_is_nearly_one_is_asked_about_and_the_flag_named(text: str, meant: str) -> None:
    with pytest.raises(Misuse, match=f"did you mean '{meant}'") as misuse:
        Rule.parse(text, allow=False, origin="--deny")
    assert str(misuse.value).startswith("--deny ")
