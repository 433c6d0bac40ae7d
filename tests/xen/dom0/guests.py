"""Guests of dom0: start one, run programs in it, end it. ``python3 guests.py NAME`` does so by hand."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CONSOLES = Path("/run/xen/console")
RESULTS = Path("/exchange/results")
#: How guests reach dom0 without PV Calls.
DOM0_ADDRESS = "10.57.0.1"
#: Where image/agent.py listens.
_AGENT_PORT = 5757
#: MiB of a guest. The image is held twice while it is unpacked.
MEMORY = int(Path("/exchange/guest-memory").read_text())
#: As the harness starts it in dom0.
PYTEST = Path("/exchange/pytest").read_text().strip()
RECORD_EVIDENCE = bool(Path("/exchange/evidence").read_text())
#: The time is read from the processor, as on hardware whose counter is trusted: to ask Xen costs 35 us here.
LINUX = Path("/exchange/linux").read_text() + " clocksource=tsc tsc=reliable"
CONFIGURATION = f"""
name = "{{name}}"
type = "{{kind}}"
kernel = "/exchange/vmlinux"
ramdisk = "/exchange/system.cpio"
extra = "{LINUX}"
tsc_mode = "native"
memory = {{memory}}
vcpus = 1
vif = ["script=/usr/lib/refimpl-xen/vif"]
pvcalls = [{{pvcalls}}]
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
"""


class CommandFailed(AssertionError):
    """A command in a guest ended with another status than 0."""


class Guest:
    """A running guest, made by :func:`started`."""

    def __init__(self, name: str, domid: int, address: str | None = None) -> None:
        self.name = name
        self.domid = domid
        self.address = address or f"10.57.{domid}.2"

    def open(self, command: str, timeout: float | None = 60) -> socket.socket:
        """Start a shell command in the guest; return the connection that is its input and output.

        After all that the command prints come a NUL and its exit status in decimal.
        """
        connection = socket.create_connection((self.address, _AGENT_PORT), timeout)
        connection.sendall(command.replace("\n", ";").encode() + b"\n")
        return connection

    def run(self, command: str, *, standard_input: bytes = b"", timeout: float = 60) -> str:
        """Run a shell command in the guest and return what it prints. Raises CommandFailed with it."""
        output, status = self.attempt(command, standard_input=standard_input, timeout=timeout)
        if status:
            raise CommandFailed(f"{self.name}: {command!r} ended with {status}:\n{output.decode(errors='replace')}")
        return output.decode()

    def attempt(self, command: str, *, standard_input: bytes = b"", timeout: float = 60) -> tuple[bytes, int]:
        """Run a shell command in the guest; return what it prints and its exit status."""
        output = bytearray()
        with self.open(command, timeout) as connection:
            connection.sendall(standard_input)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(1 << 16):
                output += chunk
        printed, _, status = bytes(output).rpartition(b"\0")
        return printed, int(status)

    def start(self, command: str) -> int:
        """Start a shell command in the guest's background; return its process id."""
        return int(self.run(f"( {command} ) > /tmp/background.log 2>&1 < /dev/null & echo $!"))

    def await_output(self, command: str, expected: str, patience: float = 30) -> None:
        """Repeat a shell command until it prints what is expected."""
        deadline = time.monotonic() + patience
        while (printed := self.run(command).strip()) != expected:
            assert time.monotonic() < deadline, f"{command!r} prints {printed!r}, not {expected!r}"
            time.sleep(0.1)

    def make_device_anew(self) -> None:
        """Take the device from where a frontend of refimpl's leaves it, Closed, to where Linux's starts."""
        self.await_output("xenstore-read device/pvcalls/0/state", "6")
        self.run("xenstore-write device/pvcalls/0/state 1")
        self.await_output("xenstore-read $(xenstore-read device/pvcalls/0/backend)/state", "2")

    def pytest(
        self, paths: str, *, name: str | None = None, evidence: bool = False, timeout: float = 300, **environment: str
    ) -> None:
        """Run tests of guest/ in the guest; with a ``name`` their results are kept. Raises CommandFailed."""
        variables = " ".join(f"{key}={value}" for key, value in environment.items())
        paths = " ".join(f"tests/xen/{path}" for path in paths.split())
        command = f"{variables} {PYTEST} {paths} --junitxml=/tmp/{name}.xml"
        if RECORD_EVIDENCE and evidence:
            command += f" --evidence /tmp/{name}.evidence.json --evidence-platform xen"
        try:
            print(self.run(command, timeout=timeout))
        finally:
            for file in (f"{name}.xml", f"{name}.evidence.json") if name else ():
                content, missing = self.attempt(f"cat /tmp/{file}")
                if not missing:
                    (RESULTS / file).write_bytes(content)

    def kernel_log(self) -> str:
        """Return the log of the guest's Linux."""
        return self.run("dmesg")

    @property
    def console(self) -> str:
        """What the guest wrote on its console so far."""
        return (CONSOLES / f"guest-{self.name}.log").read_text(errors="replace")

    @property
    def is_alive(self) -> bool:
        """Whether Xen still has the domain."""
        return subprocess.run(["xl", "domid", self.name], capture_output=True).returncode == 0

    def destroy(self) -> None:
        """End the guest as a power cut would."""
        subprocess.run(["xl", "destroy", self.name], check=False, capture_output=True)


def create(name: str, *, pvcalls: bool = False, kind: str = "pv", patience: float = 90) -> Guest:
    """Start a guest and wait until it can be told what to do.

    With ``pvcalls`` a backend has to run already: xl waits for it, 10 s and no longer. ``kind`` is xl's type.
    """
    configuration = Path(f"/tmp/{name}.cfg")
    device = '"backend=0"' if pvcalls else ""
    configuration.write_text(CONFIGURATION.format(name=name, kind=kind, memory=MEMORY, pvcalls=device))
    made = subprocess.run(["xl", "create", "-q", configuration], capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(f"xl create {name}: {made.stderr}{made.stdout}")
    return running(name, patience)


def running(name: str, patience: float = 90, address: str | None = None) -> Guest:
    """Wait until a guest that was created can be told what to do, and return it; ``address`` where it kept an older."""
    guest = Guest(name, int(subprocess.check_output(["xl", "domid", name])), address)
    deadline = time.monotonic() + patience
    while True:
        try:
            guest.run("true", timeout=2)
        except OSError:
            if time.monotonic() > deadline or not guest.is_alive:
                raise RuntimeError(f"guest {name} does not answer; its console:\n{guest.console}") from None
            time.sleep(0.1)
        else:
            if "unpacking failed" in guest.console:
                raise RuntimeError(f"guest {name} is too small for the image: {MEMORY} MiB")
            return guest


@contextlib.contextmanager
def started(name: str, *, pvcalls: bool = False, kind: str = "pv") -> Iterator[Guest]:
    """Start a guest for a block."""
    guest = create(name, pvcalls=pvcalls, kind=kind)
    try:
        yield guest
    finally:
        guest.destroy()


if __name__ == "__main__":
    with started(sys.argv[1]) as by_hand:
        print(f"guest {by_hand.name} is domain {by_hand.domid}; Ctrl-D ends it")
        for typed in sys.stdin:
            printed, status = by_hand.attempt(typed.rstrip("\n"))
            print(printed.decode(errors="replace"), end="" if not status else f"[{status}]\n")
