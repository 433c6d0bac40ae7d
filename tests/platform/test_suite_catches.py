"""The suite can fail: each fault is seen by the checks named for it, and each check sees some fault."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from refimpl.errors import RefimplError
from refimpl.testing import CHECKS, stress_event_channels, stress_grants
from refimpl.testing.conformance.on_shm import ShmFactory


def load(name: str):
    full_name = name if name.startswith("faults") else f"conformance_tests_{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, Path(__file__).parent / f"{name}.py")
        sys.modules[full_name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full_name]


FAULTS = load("faults").FAULTS
for each in ("grants", "events", "store"):
    load(f"faults_of_{each}")
CASES = [(fault, name) for fault in FAULTS for name in fault.seen_by]
BY_NAME = {check.name: check for check in CHECKS}

#: How a check says that a fault is there: its own words, or an exception that the platform should not have raised. What
#: is not among these would be a mistake of the fault itself.
SEEN = (AssertionError, RefimplError, InterruptedError, KeyError, IndexError, TypeError)

#: Checks that need domains in other processes: the simple platform has none.
NEED_PROCESSES = {check.name for check in CHECKS if "can_spawn_domain" in check.needs}


@pytest.mark.parametrize(("fault", "name"), CASES, ids=[f"{fault.name}-{name}" for fault, name in CASES])
def test_fault_is_seen(simple_factory, fault, name) -> None:
    def spoilt(platform):
        fault.spoil(platform)
        return platform

    with simple_factory(sabotage=spoilt, patience=0.3) as factory:
        try:
            BY_NAME[name].run(factory)
        except SEEN:
            return
    pytest.fail(f"{name} passes for a platform where {fault.name}")


def test_every_check_sees_some_fault() -> None:
    assert {check.name for check in CHECKS} - NEED_PROCESSES == {name for _, name in CASES}


STRESS_EVENTS = lambda factory: stress_event_channels(factory, events=60_000)  # noqa: E731 - a row of the table below
STRESS_GRANTS = lambda factory: stress_grants(factory, rounds=1500)  # noqa: E731
FAULTS_ON_SHM = [
    ("LosesNotifications", "stress of event channels", STRESS_EVENTS),
    ("LosesEventsDuringTheMask", "stress of event channels", STRESS_EVENTS),
    ("EndsLate", "stress of grants", STRESS_GRANTS),
    ("ReusesPagesAtOnce", "stress of grants", STRESS_GRANTS),
    ("RefusesNowAndThen", "stress of grants", STRESS_GRANTS),
    *(
        (fault, name, BY_NAME[f"death.{name}"].run)
        for fault, name in (
            ("TellsNoDeath", "death-is-told-by-release-domain"),
            ("TellsNoDeath", "arrival-is-told-by-introduce-domain"),
            ("MapsTheDead", "mapper-keeps-a-dead-granters-pages"),
            ("MapsTheDead", "domain-starts-again-at-once"),
            ("CannotComeBack", "domain-starts-again-at-once"),
            ("NeverEnds", "dead-mapper-lets-go"),
            ("FearsTheDead", "channel-with-the-dead-is-silent"),
            ("ForgetsTheDead", "event-sent-before-death-arrives"),
            ("WritesBeforeTheCommit", "dead-domains-transaction-and-watches-are-gone"),
            ("DiesWithItsLastChild", "forked-child-does-not-keep-a-domain-alive"),
        )
    ),
]


@pytest.mark.parametrize(("fault", "name", "run"), FAULTS_ON_SHM, ids=[f"{f}-{n}" for f, n, _ in FAULTS_ON_SHM])
def test_fault_between_processes_is_seen(fault, name, run) -> None:
    join = f"{Path(__file__).parent / 'faulty_shm.py'}:{fault}.join"
    with ShmFactory(join=join, patience=1.0) as factory:
        try:
            run(factory)
        except SEEN:
            return
    pytest.fail(f"{name} passes for a platform that {fault}")


@pytest.mark.parametrize("run", [STRESS_EVENTS, STRESS_GRANTS, BY_NAME["death.domain-starts-again-at-once"].run])
def test_without_a_fault_the_same_passes(run) -> None:
    with ShmFactory(join=f"{Path(__file__).parent / 'faulty_shm.py'}:ShmPlatform.join") as factory:
        run(factory)


def test_every_check_between_processes_sees_some_fault() -> None:
    assert {f"death.{name}" for _, name, _ in FAULTS_ON_SHM if not name.startswith("stress")} == NEED_PROCESSES
