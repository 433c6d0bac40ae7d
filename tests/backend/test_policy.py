"""Rules: what they say, which decides, and what a refusal tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.backend.policy import Policy, Rule
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import CommandRefused, Misuse


def is_allowed(policy: Policy, call: str, host: str, port: int, *listened: int) -> bool:
    try:
        policy.check(call, InternetAddress(host, port), guest_listens_on=listened.__contains__)
    except CommandRefused as refused:
        assert refused.error_number == ErrorNumber.EACCES
        return False
    return True


def rules(*texts: str) -> Policy:
    return Policy([Rule.parse(text[1:], allow=text[0] == "+") for text in texts])


@pytest.mark.security("SEC-B-15")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.0.1", "0.0.0.0", "0.1.2.3"])
def test_by_default_this_host_is_reached_only_where_guests_listen(host: str) -> None:
    assert not is_allowed(Policy(), "connect", host, 22)
    assert is_allowed(Policy(), "connect", host, 8080, 8080)


@pytest.mark.security("SEC-B-15")
@pytest.mark.parametrize(
    ("call", "host", "port", "allowed"),
    [
        ("connect", "192.0.2.1", 22, True),
        ("connect", "169.254.1.1", 80, False),
        ("bind", "0.0.0.0", 1024, True),
        ("bind", "127.0.0.1", 0, True),
        ("bind", "0.0.0.0", 1023, False),
        ("bind", "0.0.0.0", 80, False),
    ],
)
@pytest.mark.erratum("E-PRIVPORT")
def test_the_other_defaults(call: str, host: str, port: int, allowed: bool) -> None:
    assert is_allowed(Policy(), call, host, port) is allowed


def test_host_the_laptops_command_allows_everything() -> None:
    assert is_allowed(Policy(allow_everything=True), "connect", "127.0.0.1", 22)
    assert is_allowed(Policy(allow_everything=True), "bind", "0.0.0.0", 80)


@pytest.mark.spec("RAT-4")
def test_the_first_rule_that_matches_decides() -> None:
    policy = rules("-connect:10.0.0.0/8:25", "+10.1.0.0/16", "-10.0.0.0/8", "+any")
    assert not is_allowed(policy, "connect", "10.1.1.1", 25)
    assert is_allowed(policy, "connect", "10.1.1.1", 26)
    assert not is_allowed(policy, "connect", "10.2.1.1", 26)
    assert is_allowed(policy, "connect", "127.0.0.1", 22)
    assert is_allowed(policy, "bind", "10.1.1.1", 25)


@pytest.mark.security("SEC-B-15")
@pytest.mark.parametrize("network", ["127.0.0.1", "127.0.0.0/8"])
def test_a_rule_on_loopback_covers_0_0_0_0(network: str) -> None:
    assert not is_allowed(rules(f"-{network}"), "connect", "0.0.0.0", 80, 80)
    assert is_allowed(rules(f"+{network}:80"), "connect", "0.0.0.0", 80)


def test_own_covers_every_address_of_this_host() -> None:
    policy = rules("+own:80")
    assert is_allowed(policy, "connect", "127.0.0.1", 80)
    assert is_allowed(policy, "connect", "0.0.0.0", 80)
    assert not is_allowed(policy, "connect", "127.0.0.1", 81)


@pytest.mark.spec("RAT-4")
def test_a_refusal_names_its_rule_and_what_would_allow_it() -> None:
    with pytest.raises(CommandRefused) as refused:
        rules("-connect:10.0.0.0/8").check("connect", InternetAddress("10.1.2.3", 80))
    assert refused.value.reason == (
        "connect 10.1.2.3:80: rule 'connect:10.0.0.0/8' denies it; --allow connect:10.1.2.3:80 would allow it"
    )
    with pytest.raises(CommandRefused) as refused:
        Policy().check("bind", InternetAddress("0.0.0.0", 80))
    assert refused.value.reason == (
        "bind 0.0.0.0:80: the default denies binds below 1024; --allow bind:0.0.0.0:80 would allow it"
    )


@given(
    st.sampled_from(["connect", "bind"]),
    st.ip_addresses(v=4).filter(lambda a: not a.is_multicast).map(str),
    st.integers(0, 65535),
)
def test_the_remedy_a_refusal_names_does_allow_the_call(call: str, host: str, port: int) -> None:
    address = InternetAddress(host, port)
    remedy = Rule.parse(f"{call}:{host}:{port}", allow=True)
    assert remedy.matches(call, address)
    Policy([remedy]).check(call, address)


@pytest.mark.parametrize(
    "text",
    ["", "connect:", "300.1.1.1", "10.0.0.1/8", "any:http", "any:1-", "any:2-1", "any:65536", "any:-1", "any:1:2",
     "listen:any", "::1", "any:٣", "any:1_0"],
)  # fmt: skip
def test_a_rule_that_is_none_is_said_to_be(text: str) -> None:
    with pytest.raises(Misuse) as misuse:
        Rule.parse(text, allow=True)
    assert repr(text) in str(misuse.value)
