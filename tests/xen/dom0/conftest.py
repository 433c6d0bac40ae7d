"""Fixtures of the tests in dom0."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from guests import Guest, started

from refimpl.xen import XenPlatform


@pytest.fixture
def platform() -> Iterator[XenPlatform]:
    """This domain's platform."""
    with XenPlatform.open() as opened:
        yield opened


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    """A guest for all the tests that do not end it; it has no PV Calls device."""
    with started("shared") as running:
        yield running
