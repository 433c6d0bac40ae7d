"""Policy files: what they say, and each mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refimpl.backend import Call, Limits, Policy, Rule
from refimpl.backend.policy_file import read_policy
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import Misuse

WHOLE = """\
# [[rule]] in a comment is none.
[[rule]]
name = "no mail"
action = "deny"
guest = [3, 4]
call = "connect"
address = "10.0.0.0/8"
ports = "25"
error = "ECONNREFUSED"

[[rule]]
action = "rewrite"
address = "192.0.2.1"
to = ":8080"

[[rule]]
action = "deny"
call = ["listen", "accept"]

[limits]
sockets = 100
bytes_per_second = 1_000_000
connect_seconds = 2.5

[limits.guest3]
sockets = 10
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.toml"


def read(path: Path, text: str) -> Policy:
    path.write_text(text)
    return read_policy(path)


def ask(policy: Policy, guest: int, name: str, host: str | None = None, port: int = 0):
    return policy.decide(Call(guest, name, InternetAddress(host, port) if host else None))


@pytest.mark.security("SEC-B-6", "SEC-B-15", "SEC-B-24")
def test_a_file_with_everything_in_it(path: Path) -> None:
    policy = read(path, WHOLE)
    refused = ask(policy, 3, "connect", "10.1.1.1", 25)
    assert refused.error_number == ErrorNumber.ECONNREFUSED
    assert refused.why == f"connect 10.1.1.1:25: rule 'no mail' ({path}:2) denies it"
    assert ask(policy, 5, "connect", "10.1.1.1", 25).error_number is None
    assert ask(policy, 1, "connect", "192.0.2.1", 80).address == InternetAddress("192.0.2.1", 8080)
    assert ask(policy, 1, "listen").why == f"listen: rule \"call ['listen', 'accept']\" ({path}:16) denies it"
    assert ask(policy, 1, "bind", "0.0.0.0", 80).error_number == ErrorNumber.EACCES  # The default.
    assert policy.limits_of(1, Limits()) == Limits(sockets=100, bytes_per_second=1_000_000, connect_seconds=2.5)
    assert policy.limits_of(3, Limits()).sockets == 10


def test_allow_everything_takes_the_defaults_away(path: Path) -> None:
    policy = read(path, "allow_everything = true\n")
    assert not policy.may_object_to("connect")


def test_rules_of_the_command_line_stand_before_the_files(path: Path) -> None:
    path.write_text('[[rule]]\naction = "deny"\n')
    policy = read_policy(path, first=[Rule.parse("socket", allow=True, origin="--allow")])
    assert ask(policy, 1, "socket").why == "socket: rule 'socket' (--allow) allows it"
    assert ask(policy, 1, "listen").error_number == ErrorNumber.EACCES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule]]\naction = \n", "2: Invalid value"),
        ('[[rule]]\naction = "deny', "2: Unterminated string"),
        ("alow_everything = true", "1: 'alow_everything' is no key of a policy; did you mean 'allow_everything'?"),
        ("\nallow_everything = 1", "2: allow_everything is true or false, not 1"),
        ("rule = 1", "1: a rule is a table of its own, under [[rule]]"),
        ('[[rule]]\naction = "deny"\n[[rule]]\n', "3: a rule has an action: allow, deny or rewrite"),
        ('[[rule]]\naction = "deney"', "2: action: 'deney' is none; did you mean 'deny'?"),
        ('[[rule]]\naction = "deny"\nadress = "any"', "3: 'adress' is no key of a rule; did you mean 'address'?"),
        (
            '[[rule]]\naction = "deny"\naddress = "10.0.0.1/8"',
            "3: address: '10.0.0.1/8' is no IPv4 address, network, 'own' or "
            "'any' (10.0.0.1/8 has host bits set); did you mean '10.0.0.0/8'?",
        ),
        ('[[rule]]\naction = "deny"\naddress = "10.0.0"', "3: address: '10.0.0' is no IPv4 address"),
        ('[[rule]]\naction = "deny"\nerror = "WHAT"', "3: error: 'WHAT' is none; there are EPERM"),
        ('[[rule]]\naction = "deny"\naddress = 10', "3: address: text in quotes, not 10"),
        ('[[rule]]\naction = "deny"\nports = 99999', "3: ports: '99999' is not within 0-65535"),
        ('[[rule]]\naction = "deny"\nports = "80-"', "3: ports: '80-' is no TCP port number or range"),
        ('[[rule]]\naction = "deny"\nguest = 70000', "3: guest: 70000 is no domid (0 to 32751)"),
        ('[[rule]]\naction = "deny"\nguest = true', "3: guest: a domid or a list of them, not True"),
        ('[[rule]]\naction = "deny"\ncall = "conect"', "3: call: 'conect' is none; did you mean 'connect'?"),
        ('[[rule]]\naction = "deny"\ncall = []', "3: call: a list of no calls matches nothing"),
        ('[[rule]]\naction = "deny"\ncall = "listen"\nports = 80', "3: call: listen has no address"),
        ('[[rule]]\naction = "deny"\nerror = "ECONREFUSED"', "3: error: 'ECONREFUSED' is none; did you mean 'ECONN"),
        ('[[rule]]\naction = "allow"\nerror = "EIO"', '3: error: only a rule with action = "deny" has one'),
        ('[[rule]]\naction = "rewrite"', '1: to: a rule with action = "rewrite" has it'),
        ('[[rule]]\naction = "deny"\nto = "1.2.3.4"', '3: to: a rule with action = "rewrite" has it, and no other'),
        ('[[rule]]\naction = "rewrite"\nto = "1.2.3:80"', "3: to: '1.2.3' is not an IPv4 address"),
        ('[[rule]]\naction = "rewrite"\nto = ":99999"', "3: to: TCP port number 99999"),
        ('[[rule]]\naction = "rewrite"\nto = ""', "3: to: '' is no address"),
        ('[[rule]]\naction = "deny"\nname = "a\\nb"', "3: name: one line of text"),
        ("limits = 3", "1: limits are a table"),
        ("[limits]\nsocket = 3", "2: 'socket' is no limit; did you mean 'sockets'?"),
        ("[limits]\nsockets = -1", "2: sockets is a whole number from 0 on, not -1"),
        ("[limits]\nbytes_per_second = 0", "2: bytes_per_second is a whole number from 1 on, not 0"),
        ("[limits]\ndrain_seconds = nan", "2: drain_seconds is a time in seconds, not nan"),
        ("\n[limits.guest3]\nbacklog = 1.5", "3: backlog is a whole number from 0 on, not 1.5"),
        ("[limits.dom3]\nbacklog = 1", "1: [limits.dom3]: a guest's limits are under [limits.guestN]"),
        ("[limits.guest3]\nbacklog = 1\n[limits.guest03]\nbacklog = 2", "3: [limits.guest03]: guest 3 has limits"),
        ('[[rule]]\naction = "rewrite"\nto = "192.0.2.1:0"', "3: to: '192.0.2.1:0': nothing listens on port 0"),
        ("[limits.guest99999]\nbacklog = 1", "1: 99999 is no domid"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_was_meant(path: Path, text: str, said: str) -> None:
    with pytest.raises(Misuse) as misuse:
        read(path, text)
    assert str(misuse.value).startswith(f"{path}:{said}")


def test_all_mistakes_are_said_at_once_in_the_files_order(path: Path) -> None:
    with pytest.raises(Misuse) as misuse:
        read(path, '[[rule]]\naction = "x"\nports = "y"\n[limits]\nz = 1\n')
    assert [line.split(":")[1] for line in str(misuse.value).splitlines()] == ["2", "3", "5"]


def test_a_file_that_cannot_be_read_is_named(path: Path) -> None:
    with pytest.raises(Misuse, match="No such file"):
        read_policy(path)
    path.write_bytes(b"\xef\xbb\xbfallow_everything = true\n")  # As some editors begin a file.
    assert read_policy(path).allow_everything
    path.write_bytes(b"\xff")
    with pytest.raises(Misuse, match="not UTF-8"):
        read_policy(path)


PIECES = ["[[rule]]\n", "[limits]\n", "[limits.guest1]\n", 'action = "deny"\n', 'action = "rewrite"\n', "guest = 1\n",
          'to = ":1"\n', 'call = "bind"\n', 'address = "own"\n', "ports = 1\n", "sockets = 1\n", "x = [[1], {}]\n",
          "rule = [{}]\n", '"""\n', "# c\n", "allow_everything = true\n"]  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=8).map("".join))
def test_whatever_a_file_says_it_is_a_policy_or_misuse_with_a_line(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        policy = read_policy(path)
    except Misuse as misuse:
        for line in str(misuse).splitlines():
            number = int(line.removeprefix(f"{path}:").partition(":")[0])
            assert 1 <= number <= text.count("\n") + text.count("\r") + 1
    else:
        ask(policy, 1, "connect", "127.0.0.1", 80)
