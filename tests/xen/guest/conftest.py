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
        "markers", "fault_of(*ends, reason, always=True): what this test shows is wrong, in the cells with these ends"
    )
    config.addinivalue_line("markers", "only(*ends): for the cells that have all these ends")
    config.addinivalue_line("markers", "never(*ends, reason): not for the cells that have all these ends")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of this cell; one that shows a fault of an end here has to fail."""
    for item in items:
        item.user_properties.append(("platform", "linux" if "linux" in FRONT + BACK else "xen"))
        for marker in item.iter_markers("only"):
            if not _is_here(marker.args):
                item.add_marker(pytest.mark.skip(reason=f"for {', '.join(marker.args)}"))
        for marker in item.iter_markers("never"):
            if _is_here(marker.args):
                item.add_marker(pytest.mark.skip(reason=marker.kwargs["reason"]))
        for marker in item.iter_markers("fault_of"):
            if _is_here(marker.args):
                always = marker.kwargs.get("always", True)
                item.add_marker(pytest.mark.xfail(reason=marker.kwargs["reason"], strict=always))


def _is_here(ends: tuple[str, ...]) -> bool:
    """Say whether this cell has all of the ends: ``front:linux``, ``back:linux`` (as Debian has it or with the fix)."""
    here = {f"front:{FRONT}", f"back:{BACK}", f"back:{BACK.removesuffix('-fixed')}"}
    if BACK == "linux":
        here.add("back:linux-stock")
    return here.issuperset(ends)


@pytest.fixture(scope="session")
def sockets() -> Iterator[Sockets]:
    """The frontend under test, connected."""
    opened = RefimplSockets() if FRONT == "refimpl" else LinuxSockets()
    yield opened
    opened.close()
