"""Two domains for probing: 0, where a backend can be, and a guest with a device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refimpl.platform import Platform
from refimpl.shm import ShmPlatform
from refimpl.testing.pair import shm_run
from refimpl.toolstack import attach, introduce_domain_nodes


@pytest.fixture
def domains() -> Iterator[tuple[Platform, Platform]]:
    with (
        shm_run() as run,
        ShmPlatform.join(run, domid=0, arena_pages=4096) as host,
        ShmPlatform.join(run, arena_pages=4096) as guest,
    ):
        introduce_domain_nodes(host.store, 0)
        introduce_domain_nodes(host.store, guest.domid)
        attach(host.store, guest.domid)
        yield host, guest
