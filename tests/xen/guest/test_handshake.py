"""refimpl's frontend brings the device up and lets it go, again and again."""

from __future__ import annotations

import pytest

from refimpl.frontend import Frontend
from refimpl.xen import XenPlatform


@pytest.mark.spec("STATE-3", "STATE-6", "STATE-8", "STATE-10")
def test_open_and_close_again_and_again() -> None:
    with XenPlatform.open() as platform:
        for _ in range(3):
            with Frontend.open(platform):
                assert platform.store.read("device/pvcalls/0/state") == b"4"
            assert platform.store.read("device/pvcalls/0/state") == b"6"


@pytest.mark.spec("FNODE-1", "FNODE-3", "FNODE-4", "FNODE-5")
def test_nodes_are_published() -> None:
    with XenPlatform.open() as platform, Frontend.open(platform):
        assert platform.store.read("device/pvcalls/0/version") == b"1"
        for name in ("port", "ring-ref"):
            assert platform.store.read(f"device/pvcalls/0/{name}").isdigit()
