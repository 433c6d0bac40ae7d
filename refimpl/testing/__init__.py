"""Public tools for tests: the conformance suite of a platform, and peers that can write any byte.

A new platform is right when it passes :data:`CHECKS`, each a function of a :class:`Factory`, and the three stresses::

    with MyFactory() as factory:
        for check in CHECKS:
            check.run(factory)          # AssertionError says what is wrong; Skipped, why it could not be asked
        stress_event_channels(factory, processes=3, ports=32, events=1_000_000)
        stress_grants(factory, rounds=10_000)
        stress_deaths(factory, rounds=100)

``python -m refimpl.testing --platform shm`` does that for the platforms of this package. pytest is not needed.

A real frontend and a real backend in one process are in :mod:`refimpl.testing.pair`, which imports both.
"""

from __future__ import annotations

from refimpl.testing.conformance import GROUPS
from refimpl.testing.conformance.checks import CHECKS, Check, Skipped, run_group
from refimpl.testing.conformance.factory import Factory, Peers, Spawned
from refimpl.testing.conformance.stress_deaths import stress_deaths
from refimpl.testing.conformance.stress_events import stress_event_channels
from refimpl.testing.conformance.stress_grants import stress_grants
from refimpl.testing.hostile import DataRing
from refimpl.testing.hostile_backend import HostileBackend
from refimpl.testing.hostile_frontend import HostileFrontend

__all__ = [
    "CHECKS",
    "GROUPS",
    "Check",
    "DataRing",
    "Factory",
    "HostileBackend",
    "HostileFrontend",
    "Peers",
    "Skipped",
    "Spawned",
    "check_death",
    "check_event_channels",
    "check_fork",
    "check_grants",
    "check_leaks",
    "check_store",
    "stress_deaths",
    "stress_event_channels",
    "stress_grants",
]


def check_grants(factory: Factory) -> list[str]:
    """Run the checks of grants and maps. Raises AssertionError."""
    return run_group("grants", factory)


def check_event_channels(factory: Factory) -> list[str]:
    """Run the checks of event channels and waiting. Raises AssertionError."""
    return run_group("event_channels", factory)


def check_store(factory: Factory) -> list[str]:
    """Run the checks of xenstore. Raises AssertionError."""
    return run_group("store", factory)


def check_death(factory: Factory) -> list[str]:
    """Run the checks of domains that die. Raises AssertionError."""
    return run_group("death", factory)


def check_fork(factory: Factory) -> list[str]:
    """Run the checks of fork. Raises AssertionError."""
    return run_group("fork", factory)


def check_leaks(factory: Factory) -> list[str]:
    """Run the checks of what is left behind. Raises AssertionError."""
    return run_group("leaks", factory)
