"""{refimpl, Linux} in the guest x {refimpl, Linux} in dom0: the tests of guest/, in every cell."""

from __future__ import annotations

from collections.abc import Iterator

import backends
import pytest
import services
from guests import Guest, started

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module", params=backends.NAMES)
def back(request: pytest.FixtureRequest) -> Iterator[str]:
    with services.running(), backends.running(request.param):
        yield request.param


@pytest.fixture(scope="module")
def served(back: str) -> Iterator[Guest]:
    with started(f"on-{back}", pvcalls=True) as guest:
        yield guest


@pytest.mark.spec("RING-16", "SOCKET-1", "BIND-1", "RING-18")
@pytest.mark.erratum("E-UNKNOWN-ID", "E-REL-UNKNOWN")
def test_commands_byte_by_byte(served: Guest, back: str) -> None:
    served.pytest("guest/test_commands.py guest/test_stall.py", name=f"commands-on-{back}", FRONT="refimpl", BACK=back)


@pytest.mark.spec("CONNECT-6", "CONNECT-7", "CONNECT-8", "CONNECT-9")
def test_refimpl_in_front(served: Guest, back: str) -> None:
    served.pytest("guest/test_sockets.py", name=f"refimpl-on-{back}", FRONT="refimpl", BACK=back)


@pytest.mark.spec("ACCEPT-7", "ACCEPT-9", "ACCEPT-10", "ACCEPT-11")
def test_linux_in_front(served: Guest, back: str, request: pytest.FixtureRequest) -> None:
    """Last: Linux's frontend never lets go of the device. It takes the one that refimpl's left."""
    request.node.user_properties.append(("platform", "linux"))
    served.run("xenstore-write device/pvcalls/0/state 1")
    served.await_output("xenstore-read $(xenstore-read device/pvcalls/0/backend)/state", "2")
    served.pytest("guest/test_sockets.py", name=f"linux-on-{back}", FRONT="linux", BACK=back)
