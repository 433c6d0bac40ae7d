"""Ends that close, die and come back, over real Xen: refimpl's own two, used by their commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import services
from guests import Guest, started
from programs import ECHO, ECHO_PORT, PATIENCE, BackendProcess, Program, holding

from refimpl.errors import DeviceInUse
from refimpl.toolstack import attach, detach
from refimpl.xen import XenPlatform

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def backend(guests: list[Guest]) -> Iterator[BackendProcess]:
    """`refimpl backend`, which the guests' devices have been waiting for."""
    with services.running():
        process = BackendProcess()
        yield process
        process.kill()


def state_of(guest: Guest) -> str:
    return guest.run("xenstore-read device/pvcalls/0/state").strip()


def test_clean_close_and_again(backend: BackendProcess, guest: Guest) -> None:
    for _ in range(2):
        with Program(guest) as program:
            assert state_of(guest) == "4"
            program.kill("INT")
        services.await_connections(0)


def test_frontend_killed_in_a_living_guest(backend: BackendProcess, guest: Guest) -> None:
    """The backend hears of it at once and lets its socket go; the next frontend brings the device back."""
    with Program(guest) as killed:
        killed.kill("KILL")
        services.await_connections(0)
        assert state_of(guest) == "4"  # Nobody was left to say otherwise.
        with Program(guest) as second:
            services.await_connections(1)
            second.say(b"still there")


def test_second_process_of_a_guest_is_told_who_has_the_device(backend: BackendProcess, guest: Guest) -> None:
    with Program(guest) as program:
        output, status = guest.attempt(f"python3 -m refimpl connect {ECHO}")
        assert status
        assert f"process {program.process} holds" in output.decode()


def test_second_backend_is_told_who_serves(backend: BackendProcess, guest: Guest, platform: XenPlatform) -> None:
    with Program(guest), pytest.raises(DeviceInUse, match=f"process {backend.process} holds"):
        platform.hold_backend()


@pytest.mark.parametrize("front", ["refimpl", "linux"])
def test_guest_destroyed(backend: BackendProcess, guest: Guest, front: str) -> None:
    """The backend closes what was the guest's, and goes on serving another."""
    with (
        Program(guest) as other,
        started(f"doomed-{front}", pvcalls=True) as doomed,
        closing(holding(doomed, front, "refimpl", "connect", ECHO_PORT)) as program,
    ):
        assert program.ask("hello") == "HELLO"
        services.await_connections(2)
        doomed.destroy()
        services.await_connections(1)
        other.say(b"not me")


def test_backend_killed_and_started_again(backend: BackendProcess, guest: Guest) -> None:
    """A frontend opened after it works."""
    with Program(guest) as orphan:
        backend.kill()
        services.await_connections(0)
        again = BackendProcess()
        try:
            orphan.wait_for_end()
            with Program(guest) as program:
                program.say(b"with the new one")
        finally:
            assert again.stop() == 0


def test_backend_stopped_in_order_tells_its_guests(backend: BackendProcess, guest: Guest) -> None:
    with Program(guest) as program:
        assert backend.stop() == 0
        program.wait_for_end()
        services.await_connections(0)


def test_device_removed_while_connected(backend: BackendProcess, guest: Guest, platform: XenPlatform) -> None:
    """Its sockets end; a device made anew is served anew."""
    with Program(guest) as program:
        detach(platform.store, guest.domid)
        program.wait_for_end()
        services.await_connections(0)
    attach(platform.store, guest.domid)
    with Program(guest) as program:
        program.say(b"anew")


def test_guest_that_is_not_paravirtualised(backend: BackendProcess) -> None:
    """Its grants, event channels and xenstore are the same."""
    with started("hardware", pvcalls=True, kind="pvh") as hardware, Program(hardware) as program:
        assert hardware.run("cat /sys/hypervisor/guest_type") == "PVH\n"
        services.await_connections(1)
        program.say(b"from there")


def test_one_guest_listens_and_another_connects(backend: BackendProcess, guest: Guest, neighbour: Guest) -> None:
    """Over the backend's loopback, which reaches what guests listen on and nothing else."""
    listening = "exec python3 -m refimpl listen 7301 --address 127.0.0.1 --timeout 120 2>/tmp/listen.log"
    with guest.open(listening, PATIENCE) as listener:
        command = "echo over | timeout -s INT 100 python3 -m refimpl connect 127.0.0.1 7301 --wait 1"
        output, status = neighbour.attempt(command, timeout=2 * PATIENCE)
        while status:  # Until the other guest listens.
            assert b"ECONNREFUSED" in output, output.decode()
            output, status = neighbour.attempt(command, timeout=2 * PATIENCE)
        heard = b""
        while len(heard) < 5 and (chunk := listener.recv(100)):
            heard += chunk
        assert heard.startswith(b"over\n"), guest.run("cat /tmp/listen.log")  # Its exit status may follow.
