"""The conformance suite of a platform on real Xen: in dom0 alone, and between dom0 and guests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from factories import Dom0AndGuests
from guests import Guest

from refimpl.testing import CHECKS, Check, Skipped
from refimpl.testing.conformance.on_xen import XenFactory


@pytest.fixture(scope="module")
def between(guests: list[Guest]) -> Iterator[Dom0AndGuests]:
    domains = Dom0AndGuests(guests)
    yield domains
    domains.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_dom0_alone(check: Check) -> None:
    try:
        check.run(XenFactory())
    except Skipped as reason:
        pytest.skip(str(reason))


#: Not between domains: thousands of calls by way of the other domain's agent, for what is each domain's own matter.
ALONE = {check.name for check in CHECKS if check.group == "leaks"} | {"event_channels.closed-ports-can-be-used-again"}


@pytest.mark.parametrize("check", [c for c in CHECKS if c.name not in ALONE], ids=lambda check: check.name)
def test_between_dom0_and_guests(check: Check, between: Dom0AndGuests) -> None:
    try:
        check.run(between)
    except Skipped as reason:
        pytest.skip(str(reason))
