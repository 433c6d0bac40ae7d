"""What guests may do: every call seen before it is carried out, and allowed, refused, or sent elsewhere.

Rules (:mod:`~refimpl.backend.rules`) stand in order and the first that matches decides. What none matches is up to the
defaults: a connect to this host reaches only what guests listen on, link-local destinations and binds below 1024 are
refused, and the rest is allowed.

A program can decide by itself: give ``Settings`` a subclass with a :meth:`Policy.decide` of its own, and a
:meth:`Policy.may_object_to` that says of which calls it wants to be asked.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from refimpl.backend.limits import Limits
from refimpl.backend.network import is_own_address
from refimpl.backend.rules import CALLS, CALLS_WITH_ADDRESS, Action, Call, Rule
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import ErrorNumber

_LINK_LOCAL = ipaddress.IPv4Network("169.254.0.0/16")
#: Whether a guest listens on an address of this host.
ListensOn = Callable[[InternetAddress], bool]
_NO_LIMITS: Mapping[int | None, Mapping[str, float]] = {}


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a call: allowed, refused with ``error_number``, or carried out with another ``address``.

    ``why`` names the rule, or the default, that decided.
    """

    why: str
    error_number: ErrorNumber | None = None
    address: InternetAddress | None = None


ALLOWED = Decision("nothing denies it")


class Policy:
    """Ordered rules, then the defaults; and the limits of each guest that are not everybody's.

    ``limits`` has members of :class:`~refimpl.backend.limits.Limits` by guest, those of ``None`` for every guest.
    """

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        *,
        allow_everything: bool = False,
        limits: Mapping[int | None, Mapping[str, float]] = _NO_LIMITS,
    ) -> None:
        self.rules = tuple(rules)
        self.allow_everything = allow_everything
        self.limits = limits
        self._rules_of = {call: tuple(rule for rule in self.rules if call in rule.calls) for call in CALLS}

    def may_object_to(self, call: str) -> bool:
        """Say whether a call of this name has to be decided at all: what nobody has a rule for costs nothing."""
        return bool(self._rules_of.get(call)) or (call in CALLS_WITH_ADDRESS and not self.allow_everything)

    def decide(self, call: Call, *, guest_listens_on: ListensOn = lambda _address: False) -> Decision:
        """Say what becomes of a call. What is raised here refuses it, with an OSError's own number or EACCES.

        ``guest_listens_on(address)`` says whether a connect to an address of this host meets a guest of this backend.
        """
        for rule in self._rules_of[call.name]:
            if rule.matches(call):
                return _carry_out(rule, call)
        if self.allow_everything or call.address is None:
            return ALLOWED
        objection = _default_objection(call, call.address, guest_listens_on)
        if objection is None:
            return ALLOWED
        remedy = f"--allow {call.to_rule_text()} would allow it"
        return Decision(f"{call}: {objection}; {remedy}", ErrorNumber.EACCES)  # RAT-4

    def limits_of(self, guest: int, general: Limits) -> Limits:
        """Return what a guest may take: the general limits, but for those the policy has for all, or for this one."""
        special = {**self.limits.get(None, {}), **self.limits.get(guest, {})}
        return dataclasses.replace(general, **special) if special else general  # type: ignore[arg-type]


def _carry_out(rule: Rule, call: Call) -> Decision:
    if rule.action is Action.DENY:
        return Decision(f"{call}: {rule} denies it", rule.error_number)  # RAT-4
    if rule.action is Action.REWRITE and call.address is not None:
        address = rule.rewritten(call.address)
        return Decision(f"{call}: {rule} makes it {address}", address=address)
    return Decision(f"{call}: {rule} allows it")


def _default_objection(call: Call, address: InternetAddress, guest_listens_on: ListensOn) -> str | None:
    if call.name == "bind":
        if 0 < address.port_number < 1024:  # E-PRIVPORT
            return "the default denies binds below 1024"
        return None
    if ipaddress.IPv4Address(address.host) in _LINK_LOCAL:  # SEC-B-15
        return "the default denies link-local addresses"
    if is_own_address(address.host) and not guest_listens_on(address):  # SEC-B-15, RAT-7
        return "the default denies this host's own services"
    return None
