"""shm passes the suite that every platform must pass.

Its domains are in one process and in one each, woken by semaphores and by eventfds.
"""

from __future__ import annotations

import sys

import pytest

from refimpl.testing import CHECKS, Skipped, stress_event_channels, stress_grants
from refimpl.testing.conformance.on_shm import ShmFactory

WAYS = {"one-process": {}, "processes": {"in_processes": True}, "selectable": {"selectable": True}}


@pytest.fixture(scope="module", params=WAYS)
def factory(request):
    with ShmFactory(**WAYS[request.param]) as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_shm_conforms(factory, check) -> None:
    if check.name == "fork.fork-during-calls-in-other-threads" and sys.gettrace() is not None:
        pytest.skip("coverage traces with a lock that a forked child finds locked for ever")
    try:
        check.run(factory)
    except Skipped as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=[False, True], ids=["semaphores", "eventfds"])
def own_factory(request):
    with ShmFactory(selectable=request.param) as made:
        yield made


def test_no_event_is_lost_among_three_processes(own_factory) -> None:
    sent, _ = stress_event_channels(own_factory, processes=3, ports=32, events=60_000)
    assert sent >= 60_000


def test_no_map_begins_after_an_end(own_factory) -> None:
    outcome = stress_grants(own_factory, rounds=1000)
    assert outcome.maps
