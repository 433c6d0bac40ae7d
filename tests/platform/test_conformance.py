"""Every platform passes the same checks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refimpl.testing import (
    CHECKS,
    Check,
    Factory,
    Skipped,
    stress_deaths,
    stress_event_channels,
    stress_grants,
)
from refimpl.testing.conformance.on_shm import ShmFactory

PLATFORMS = ("simple", "shm", "shm-processes")

#: With peers in processes of their own: what could work in one process and not between two. The store's clients meet
#: in its server in either case, and the rest is about one process alone or starts its own.
ACROSS_PROCESSES = ("grants", "event_channels")


@pytest.fixture(scope="session")
def shm_factories() -> Iterator[dict[str, Factory]]:
    with ShmFactory() as together, ShmFactory(in_processes=True) as apart:
        yield {"shm": together, "shm-processes": apart}


@pytest.fixture
def factory(request, simple_factory, shm_factories) -> Iterator[Factory]:
    if request.param in shm_factories:
        yield shm_factories[request.param]
    else:
        with simple_factory() as made:
            yield made


def cases() -> Iterator[object]:
    for platform in PLATFORMS:
        for check in CHECKS:
            if platform != "shm-processes" or check.group in ACROSS_PROCESSES:
                yield pytest.param(platform, check, id=f"{platform}-{check.name}")


@pytest.mark.parametrize(("factory", "check"), list(cases()), indirect=["factory"])
def test_platform_conforms(factory: Factory, check: Check) -> None:
    try:
        check.run(factory)
    except Skipped as reason:
        pytest.skip(str(reason))


def test_no_event_is_lost_among_three_processes(shm_factories) -> None:
    notifications, wakeups = stress_event_channels(shm_factories["shm"], processes=3, ports=32, events=60_000)
    assert notifications >= 60_000
    assert wakeups > 0


def test_no_grant_is_mapped_after_its_end(shm_factories) -> None:
    outcome = stress_grants(shm_factories["shm"], rounds=1500)
    assert outcome.maps > 0
    assert outcome.refusals > 0


def test_deaths_cost_nobody_else_anything(shm_factories) -> None:
    assert stress_deaths(shm_factories["shm"], rounds=10) > 0
