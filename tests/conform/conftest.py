"""Two domains for probing: 0, where a backend can be, and a guest with a device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refimpl.platform import Platform
from refimpl.testing.pair import shm_domains


@pytest.fixture
def domains() -> Iterator[tuple[Platform, Platform]]:
    with shm_domains() as both:
        yield both
