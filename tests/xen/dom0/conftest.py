"""Fixtures of the tests in dom0."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import backends
import kernel
from guests import Guest, started

from refimpl.xen import XenPlatform


@pytest.fixture
def platform() -> Iterator[XenPlatform]:
    """This domain's platform."""
    with XenPlatform.open() as opened:
        yield opened


@pytest.fixture(scope="session")
def guests() -> Iterator[list[Guest]]:
    """Two guests with PV Calls devices, for all the tests that leave them as they were; no backend runs yet.

    At the end neither they nor dom0 may have had a warning of Linux's.
    """
    with contextlib.ExitStack() as stack:
        with backends.running("refimpl"):  # For xl, which waits for one.
            pair = [stack.enter_context(started(name, pvcalls=True)) for name in ("first", "second")]
        yield pair
        logs = {"dom0": kernel.log()} | {guest.name: guest.kernel_log() for guest in pair if guest.is_alive}
    assert not {name: found for name, log in logs.items() if (found := kernel.complaints(log))}


@pytest.fixture
def guest(guests: list[Guest]) -> Guest:
    """The first of the two."""
    return guests[0]


@pytest.fixture
def neighbour(guests: list[Guest]) -> Guest:
    """The second of the two."""
    return guests[1]
