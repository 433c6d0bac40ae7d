"""shm passes the suite that every platform must pass, its domains in one process and in one each."""

from __future__ import annotations

import sys

import pytest

from refimpl.testing import CHECKS, Skipped, stress_event_channels, stress_grants
from refimpl.testing.conformance.on_shm import ShmFactory


@pytest.fixture(scope="module", params=[False, True], ids=["one-process", "processes"])
def factory(request):
    with ShmFactory(in_processes=request.param) as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_shm_conforms(factory, check) -> None:
    if check.name == "fork.fork-during-calls-in-other-threads" and sys.gettrace() is not None:
        pytest.skip("coverage traces with a lock that a forked child finds locked for ever")
    try:
        check.run(factory)
    except Skipped as reason:
        pytest.skip(str(reason))


@pytest.fixture
def own_factory():
    with ShmFactory() as made:
        yield made


def test_no_event_is_lost_among_three_processes(own_factory) -> None:
    sent, _ = stress_event_channels(own_factory, processes=3, ports=32, events=60_000)
    assert sent >= 60_000


def test_no_map_begins_after_an_end(own_factory) -> None:
    outcome = stress_grants(own_factory, rounds=1000)
    assert outcome.maps
