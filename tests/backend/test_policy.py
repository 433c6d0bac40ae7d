"""The policy: which rule decides, what becomes of the call, and what a refusal tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.backend import Call, Limits, Observer, Policy, Rule
from refimpl.backend.listeners import Listeners
from refimpl.backend.network import is_own_address
from refimpl.backend.policy import Decision
from refimpl.backend.rules import Action
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.testing import raw


def decide(policy: Policy, call: str, host: str, port: int, *listened: str, guest: int = 1) -> Decision:
    address = InternetAddress(host, port)
    listeners = Listeners(InternetAddress(each, 8080) for each in listened)
    return policy.decide(Call(guest, call, address), guest_listens_on=listeners.reached_by)


def is_allowed(policy: Policy, call: str, host: str, port: int, *listened: str) -> bool:
    decision = decide(policy, call, host, port, *listened)
    assert decision.error_number in (None, ErrorNumber.EACCES)
    return decision.error_number is None


def rules(*texts: str) -> Policy:
    return Policy([Rule.parse(text[1:], allow=text[0] == "+") for text in texts])


@pytest.mark.security("SEC-B-15")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.0.1", "0.0.0.0", "0.1.2.3"])
def test_by_default_this_host_is_reached_only_where_guests_listen(host: str) -> None:
    assert not is_allowed(Policy(), "connect", host, 8080)
    assert is_allowed(Policy(), "connect", host, 8080, "0.0.0.0")
    assert not is_allowed(Policy(), "connect", host, 8081, "0.0.0.0")


@pytest.mark.security("SEC-B-15")
@pytest.mark.parametrize(
    ("host", "listened", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.2", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.2", False),
        ("0.0.0.7", "127.0.0.1", True),
    ],
)
def test_by_default_only_the_very_address_that_a_guest_listens_on_is_reached(host, listened, allowed) -> None:
    assert is_allowed(Policy(), "connect", host, 8080, listened) is allowed


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
    assert not is_allowed(rules(f"-{network}"), "connect", "0.0.0.0", 8080, "0.0.0.0")
    assert is_allowed(rules(f"+{network}:80"), "connect", "0.0.0.0", 80)


def test_own_covers_every_address_of_this_host() -> None:
    policy = rules("+own:80")
    assert is_allowed(policy, "connect", "127.0.0.1", 80)
    assert is_allowed(policy, "connect", "0.0.0.0", 80)
    assert not is_allowed(policy, "connect", "127.0.0.1", 81)


@pytest.mark.spec("RAT-4")
def test_a_refusal_names_its_rule_and_what_would_allow_it() -> None:
    assert decide(rules("-connect:10.0.0.0/8"), "connect", "10.1.2.3", 80).why == (
        "connect 10.1.2.3:80: rule 'connect:10.0.0.0/8' denies it"
    )
    assert decide(Policy(), "bind", "0.0.0.0", 80).why == (
        "bind 0.0.0.0:80: the default denies binds below 1024; --allow bind:0.0.0.0:80 would allow it"
    )


@given(
    st.sampled_from(["connect", "bind"]),
    st.ip_addresses(v=4).filter(lambda a: not a.is_multicast).map(str),
    st.integers(0, 65535),
)
def test_the_remedy_a_refusal_names_does_allow_the_call(call: str, host: str, port: int) -> None:
    asked = Call(1, call, InternetAddress(host, port))
    remedy = Rule.parse(asked.to_rule_text(), allow=True)
    assert remedy.matches(asked)
    assert Policy([remedy]).decide(asked).error_number is None


OWN = "198.51.100.7"


@pytest.fixture
def own_address(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this host that is not loopback, whatever network the machine has."""
    for module in ("policy", "rules"):
        monkeypatch.setattr(
            f"refimpl.backend.{module}.is_own_address", lambda host: host == OWN or is_own_address(host)
        )
    return OWN


@pytest.mark.security("SEC-B-15")
def test_a_rule_on_loopback_covers_the_hosts_own_addresses(own_address: str) -> None:
    policy = Policy([Rule.parse("127.0.0.0/8:22", allow=False)], allow_everything=True)
    assert not is_allowed(policy, "connect", own_address, 22)
    assert not is_allowed(policy, "bind", own_address, 22)
    assert is_allowed(policy, "connect", own_address, 23)
    assert is_allowed(policy, "connect", "198.51.100.8", 22)


@pytest.mark.security("SEC-B-15")
def test_a_part_of_loopback_that_is_allowed_opens_no_more_than_it_says(own_address: str) -> None:
    assert is_allowed(rules("+127.0.0.0/8:22"), "connect", own_address, 22)
    assert not is_allowed(rules("+127.0.0.1:22"), "connect", own_address, 22)
    assert not is_allowed(rules("+127.0.0.2:22"), "connect", "0.0.0.0", 22)
    assert not is_allowed(rules("+127.0.0.2:22"), "connect", "127.0.0.1", 22)
    denying = Policy([Rule.parse("127.0.0.2:22", allow=False)], allow_everything=True)
    for host in (own_address, "0.0.0.0", "127.0.0.1", "127.0.0.2"):
        assert not is_allowed(denying, "connect", host, 22)


@pytest.mark.security("SEC-B-15")
def test_a_bind_on_loopback_that_is_allowed_is_not_one_the_network_sees(own_address: str) -> None:
    policy = rules("+bind:127.0.0.1:80", "-bind:any")
    assert is_allowed(policy, "bind", "127.0.0.1", 80)
    assert not is_allowed(policy, "bind", "0.0.0.0", 80)
    assert not is_allowed(policy, "bind", own_address, 80)


def test_a_rule_may_speak_of_one_guest_only() -> None:
    policy = rules("-guest3:connect:any:25", "-guest4")
    assert decide(policy, "connect", "192.0.2.1", 25, guest=3).error_number == ErrorNumber.EACCES
    assert decide(policy, "connect", "192.0.2.1", 25, guest=5).error_number is None
    assert policy.decide(Call(4, "socket")).error_number == ErrorNumber.EACCES
    assert policy.decide(Call(4, "release")).error_number is None  # Only where a rule names it.


def test_calls_that_no_rule_speaks_of_need_no_decision() -> None:
    assert [c for c in ("socket", "connect", "bind", "release") if Policy().may_object_to(c)] == ["connect", "bind"]
    assert not Policy(allow_everything=True).may_object_to("connect")
    assert rules("-listen").may_object_to("listen")


def test_limits_of_one_guest_go_before_those_of_all() -> None:
    policy = Policy(limits={None: {"sockets": 10, "listeners": 2}, 3: {"sockets": 5}})
    assert (policy.limits_of(1, Limits()).sockets, policy.limits_of(3, Limits()).sockets) == (10, 5)
    assert (policy.limits_of(3, Limits()).listeners, policy.limits_of(3, Limits()).backlog) == (2, Limits().backlog)


# With a backend and guests.


class Decisions(Observer):
    """Remembers what rules said."""

    def __init__(self) -> None:
        self.whys: list[str] = []
        self.reasons: list[str] = []

    def decided(self, guest: int, request: object, decision: Decision) -> None:
        self.whys.append(decision.why)

    def response_put(self, guest: int, request: object, ret: int, reason: str) -> None:
        self.reasons.append(reason)


@pytest.mark.security("SEC-B-15")
@pytest.mark.parametrize("call", ["socket", "connect", "release", "bind", "listen", "accept", "poll"])
def test_every_call_can_be_refused_before_anything_of_it_is_done(machine, call: str) -> None:
    seen = Decisions()
    machine.serve(policy=Policy([Rule.parse(call, allow=False)], allow_everything=True), observer=seen)
    guest = machine.guest()
    address = raw.address("127.0.0.1", 0)
    requests = {  # In an order in which none waits, whichever is refused.
        "socket": (raw.socket_request, 1),
        "connect": (raw.connect_request, 1, address, 8, 2),
        "accept": (raw.accept_request, 1, 2, 8, 2),
        "poll": (raw.poll_request, 1),
        "listen": (raw.listen_request, 1),
        "bind": (raw.bind_request, 1, address),
        "release": (raw.release_request, 1),
    }
    for name, request in requests.items():
        answer = guest.ask(*request)
        assert (answer.ret == ErrorNumber.EACCES) == (name == call)
    assert len(seen.whys) == 1
    assert f"rule {call!r} denies it" in seen.whys[0]
    assert seen.whys[0] in seen.reasons


@pytest.mark.spec("RAT-4")
def test_a_rule_may_refuse_with_an_error_of_its_own(machine) -> None:
    rule = Rule(Action.DENY, "nobody", calls=("connect",), error_number=ErrorNumber.ECONNREFUSED)
    machine.serve(policy=Policy([rule]))
    guest = machine.guest()
    guest.open_socket(1)
    answer = guest.ask(raw.connect_request, 1, raw.address("192.0.2.1", 80), 8, 2)
    assert answer.ret == ErrorNumber.ECONNREFUSED


@pytest.mark.spec("RAT-4")
def test_a_rule_may_send_a_call_elsewhere(machine, server) -> None:
    host, port = server.getsockname()
    seen = Decisions()
    rule = Rule(Action.REWRITE, "the one server", calls=("connect",), new_host=host, new_port_number=port)
    machine.serve(policy=Policy([rule]), observer=seen)
    guest = machine.guest()
    ring = guest.connected(1, ("192.0.2.1", 80))
    connection, _ = server.accept()
    with connection:
        guest.put(ring, b"hello")
        assert connection.recv(5) == b"hello"
    assert seen.whys == [f"connect 192.0.2.1:80: rule 'the one server' makes it {host}:{port}"]


@pytest.mark.security("SEC-B-6", "SEC-B-24")
def test_a_new_policy_counts_from_the_next_call_on_and_drops_no_connection(machine, server) -> None:
    backend = machine.serve()
    guest = machine.guest()
    address = server.getsockname()
    ring = guest.connected(1, address)
    connection, _ = server.accept()
    strict = Policy([Rule.parse(f"connect:127.0.0.1:{address[1]}", allow=False)], limits={None: {"sockets": 2}})
    backend.call(lambda: backend.set_policy(strict))
    guest.open_socket(2)
    assert guest.ask(raw.connect_request, 2, raw.address(*address), 8, 2).ret == ErrorNumber.EACCES
    assert guest.ask(raw.socket_request, 3).ret == ErrorNumber.EMFILE
    with connection:
        guest.put(ring, b"still here")
        assert connection.recv(10) == b"still here"
