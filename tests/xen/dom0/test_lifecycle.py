"""Ends that close, die and come back, over real Xen: refimpl's own two, used by their commands."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
import services
from guests import Guest, started

pytestmark = pytest.mark.timeout(400)

#: dom0/services.py
ECHO = "127.0.0.1 7001"
PATIENCE = 60.0


class BackendProcess:
    """`refimpl backend` in a process of its own, which can be killed."""

    def __init__(self) -> None:
        command = ["python3", "-m", "refimpl", "backend", "--allow", "127.0.0.1"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        self._process.terminate()
        return self._process.wait(PATIENCE)


@pytest.fixture
def backend() -> Iterator[BackendProcess]:
    with services.running():
        process = BackendProcess()
        yield process
        process.kill()


@pytest.fixture
def guest(backend: BackendProcess) -> Iterator[Guest]:
    with started("living", pvcalls=True) as guest:
        yield guest


class Program:
    """`refimpl connect` in a guest, connected to the echo service."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._pipe = guest.open(f"echo $$; exec python3 -m refimpl connect {ECHO}", PATIENCE)
        self.process = int(self._receive(lambda line: line.endswith(b"\n")))
        self.say(b"hello")

    def say(self, word: bytes) -> None:
        """Send a word and hear it echoed."""
        self._pipe.sendall(word)
        assert self._receive(lambda received: len(received) == len(word)) == word.upper()

    def wait_for_end(self) -> bytes:
        """Return what the program says until it ends."""
        last = b""
        while chunk := self._pipe.recv(4096):
            last += chunk
        return last

    def kill(self, signal: str) -> None:
        """Send a signal, and wait for the end."""
        self._guest.run(f"kill -{signal} {self.process}; while [ -d /proc/{self.process} ]; do usleep 10000; done")

    def _receive(self, is_whole: Callable[[bytes], bool]) -> bytes:
        received = b""
        while not is_whole(received):
            character = self._pipe.recv(1)
            assert character, f"the program ended: {received!r}"
            received += character
        return received

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()


def state_of(guest: Guest) -> str:
    return guest.run("xenstore-read device/pvcalls/0/state").strip()


def test_clean_close_and_again(guest: Guest) -> None:
    for _ in range(2):
        with Program(guest) as program:
            assert state_of(guest) == "4"
            program.kill("INT")
        services.await_connections(0)


def test_frontend_killed_in_a_living_guest(guest: Guest) -> None:
    """The next frontend finds the device Connected, brings it back, and works; the backend lets the old socket go."""
    with Program(guest) as killed:
        killed.kill("KILL")
        with Program(guest) as second:
            services.await_connections(1)
            second.say(b"still there")


def test_guest_destroyed(backend: BackendProcess) -> None:
    """The backend closes what was the guest's, and serves the next."""
    with started("first", pvcalls=True) as first, Program(first):
        first.destroy()
        services.await_connections(0)
        with started("next", pvcalls=True) as second, Program(second) as program:
            program.say(b"and serves")
    services.await_connections(0)


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


def test_one_guest_listens_and_another_connects(backend: BackendProcess, guest: Guest) -> None:
    listening = "exec python3 -m refimpl listen 7301 --address 127.0.0.1 --timeout 60 2>/tmp/listen.log"
    with started("caller", pvcalls=True) as caller, guest.open(listening, PATIENCE) as listener:
        command = "echo over | timeout -s INT 100 python3 -X dev -m refimpl connect 127.0.0.1 7301 --wait 1"
        output, status = caller.attempt(command, timeout=2 * PATIENCE)
        while status:  # Until the other guest listens.
            assert b"refused" in output, output.decode()
            output, status = caller.attempt(command, timeout=2 * PATIENCE)
        heard = b""
        while len(heard) < 5:
            chunk = listener.recv(100)
            assert chunk, guest.run("cat /tmp/listen.log")
            heard += chunk
        assert heard == b"over\n"
