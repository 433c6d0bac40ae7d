"""A host in a thread."""

from __future__ import annotations

import threading

import pytest

from refimpl.errors import PlatformUnavailable
from refimpl.shm import ShmPlatform
from refimpl.testing.running_host import running_host


@pytest.mark.parametrize("stops_itself", [False, True])
def test_it_is_there_in_the_block_and_nothing_of_it_afterwards(tmp_path, stops_itself: bool) -> None:
    before = threading.active_count()
    with running_host(str(tmp_path / "run")) as host:
        with ShmPlatform.join(tmp_path / "run", domid=0) as platform:
            assert platform.store.is_introduced(0)
        if stops_itself:
            host.stop()
    assert threading.active_count() == before
    with pytest.raises(PlatformUnavailable):
        ShmPlatform.join(tmp_path / "run", domid=0)
