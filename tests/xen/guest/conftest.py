"""Fixtures of the tests in a guest: sockets of one frontend or the other, and who plays what in this cell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sockets import LinuxSockets, RefimplSockets, Sockets

FRONT, BACK = os.environ["FRONT"], os.environ["BACK"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "fault_of(end, reason, always=True): what this test shows is wrong with that end, in its cells"
    )
    config.addinivalue_line("markers", "only(end): for the cells that have that end")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of this cell; one that shows a fault of an end here has to fail."""
    for item in items:
        item.user_properties.append(("platform", "linux" if "linux" in FRONT + BACK else "xen"))
        for marker in item.iter_markers("only"):
            if marker.args[0] not in (f"front:{FRONT}", f"back:{BACK}"):
                item.add_marker(pytest.mark.skip(reason=f"for {marker.args[0]}"))
        for marker in item.iter_markers("fault_of"):
            if marker.args[0] in (f"front:{FRONT}", f"back:{BACK}"):
                always = marker.kwargs.get("always", True)
                item.add_marker(pytest.mark.xfail(reason=marker.args[1], strict=always))


@pytest.fixture(scope="session")
def sockets() -> Iterator[Sockets]:
    """The frontend under test, connected."""
    opened = RefimplSockets() if FRONT == "refimpl" else LinuxSockets()
    yield opened
    opened.close()
