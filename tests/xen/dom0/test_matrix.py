"""{refimpl, Linux} in the guest x {refimpl, Linux} in dom0: the tests of guest/, in every cell."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import closing

import backends
import kernel
import pytest
import services
from guests import RESULTS, Guest, started
from programs import ECHO_PORT, holding

pytestmark = pytest.mark.timeout(400)
MEETING_PORT = 9700
#: The tests of what programs see.
PROGRAMS = "guest/test_sockets.py guest/test_streams.py guest/test_listeners.py"


@pytest.fixture(scope="module", params=backends.NAMES)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Guest, str]]:
    """A guest with a device, and the name of the backend that serves it."""
    name = request.param
    with contextlib.ExitStack() as stack:
        stack.enter_context(services.running())
        with contextlib.ExitStack() as for_its_creation:
            # Linux's driver stays; refimpl's backend is each test's own, to be evidence for it.
            (for_its_creation if name == "refimpl" else stack).enter_context(backends.running(name))
            guest = stack.enter_context(started(f"on-{name}", pvcalls=True))
        yield guest, name


@pytest.fixture
def guest(served: tuple[Guest, str]) -> Iterator[Guest]:
    guest, name = served
    with backends.running(name) if name == "refimpl" else contextlib.nullcontext():
        yield guest


@pytest.fixture
def back(served: tuple[Guest, str]) -> str:
    return served[1]


@pytest.mark.spec("RING-16", "SOCKET-1", "BIND-1", "RING-18")
@pytest.mark.erratum("E-UNKNOWN-ID", "E-REL-UNKNOWN")
def test_commands_byte_by_byte(guest: Guest, back: str) -> None:
    paths = "guest/test_commands.py guest/test_stall.py"
    if back == "refimpl":
        paths += " guest/test_bad_grants.py"
    guest.pytest(paths, name=f"commands-on-{back}", FRONT="refimpl", BACK=back)


@pytest.mark.spec("CONNECT-6", "CONNECT-7", "CONNECT-8", "CONNECT-9")
def test_refimpl_in_front(guest: Guest, back: str) -> None:
    paths = f"guest/test_handshake.py {PROGRAMS}"
    guest.pytest(paths, name=f"refimpl-on-{back}", evidence=back != "linux", FRONT="refimpl", BACK=back)


@pytest.mark.spec("ACCEPT-7", "ACCEPT-9", "ACCEPT-10", "ACCEPT-11")
def test_linux_in_front(guest: Guest, back: str, request: pytest.FixtureRequest) -> None:
    """Last: Linux's frontend never lets go of the device. It takes the one that refimpl's left."""
    request.node.user_properties.append(("platform", "linux"))
    guest.make_device_anew()
    guest.pytest(PROGRAMS, name=f"linux-on-{back}", FRONT="linux", BACK=back)
    of_guest = guest.kernel_log()
    (RESULTS / f"{guest.name}-kernel.log").write_text(of_guest)
    known = kernel.SLEEPS_IN_A_LOCK.search
    assert not [each for each in kernel.complaints(of_guest) + kernel.complaints(kernel.log()) if not known(each)]


def test_linux_in_front_does_not_come_back(served: tuple[Guest, str]) -> None:
    """It answers a backend's Closing with Closed, and then neither it nor its callers wake up again.

    refimpl's in its place: test_lifecycle.py, where a backend stops in order and the next one is served.
    """
    guest, name = served
    if name != "refimpl":
        pytest.skip("Linux's backend does not close by itself")
    guest.await_output("xenstore-read device/pvcalls/0/state", "6")  # test_linux_in_front's backend has stopped.
    caller = guest.start("exec python3 -c 'import ctypes; ctypes.CDLL(None).socket(19, 1, 0)'")
    with backends.running(name):
        guest.await_output(f"cut -d' ' -f3 /proc/{caller}/stat", "D")
        guest.run(f"kill -9 {caller}; sleep 1")
        assert guest.run(f"cut -d' ' -f3 /proc/{caller}/stat").strip() == "D"
        assert guest.run("xenstore-read device/pvcalls/0/state").strip() == "6"


def test_linuxs_driver_is_not_fought_with(served: tuple[Guest, str]) -> None:
    """Where one is loaded its end is the kernel's, and refimpl says how to be rid of it."""
    guest, name = served
    if name == "refimpl":
        printed = guest.attempt("python3 -m refimpl connect 127.0.0.1 7001")[0].decode()
        assert "module_blacklist=pvcalls_front" in printed
    else:
        backend = subprocess.run(["python3", "-m", "refimpl", "backend"], capture_output=True, text=True, timeout=60)
        assert backend.returncode
        assert "sudo rmmod pvcalls_back" in backend.stderr


def test_guests_that_meet_over_linuxs_backend(served: tuple[Guest, str]) -> None:
    """Linux's frontend listens, refimpl's connects from another guest; each guest is destroyed while connected.

    Over refimpl's backend: test_lifecycle.py.
    """
    guest, name = served
    if name != "linux-fixed":
        pytest.skip("as Debian has it the backend stalls" if name == "linux" else "Linux's frontend does not come back")
    with (
        started("neighbour", pvcalls=True) as neighbour,
        closing(holding(guest, "linux", name, "listen", MEETING_PORT)) as far,
    ):
        assert far.hear() == "listening"
        with closing(holding(neighbour, "refimpl", name, "connect", MEETING_PORT)) as near:
            assert near.ask("hello") == "HELLO"
            neighbour.destroy()
            assert far.hear() == "ended"
    with closing(holding(guest, "linux", name, "connect", ECHO_PORT)) as program:
        assert program.ask("still here") == "STILL HERE"
        services.await_connections(1)
        guest.destroy()
        services.await_connections(0)
