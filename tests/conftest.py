"""What tests of several folders share."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import hypothesis
import pytest

from refimpl.shm.names import remove_stale_runs
from refimpl.store.client import StoreClient
from refimpl.testing.running_store import running_store

XENSTORED = Path("/usr/lib/xen-4.17/bin/xenstored")
STAND_IN_FOR_XEN = Path(__file__).parent / "shm" / "store" / "xenstored_without_xen.c"
PATIENCE = 30.0

# How long an example takes says how busy the machine is, nothing else: pytest-timeout bounds the test.
hypothesis.settings.register_profile("refimpl", deadline=None)
hypothesis.settings.load_profile("refimpl")

#: The port by which the stand-in tells xenstored that a domain died.
DEATHS = 60000


def _open_segments() -> list[str]:
    """Return the shared memory of the shm platform that this process still has open, or still maps."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [target for target in found if target.startswith("/dev/shm/pvcalls-")]


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    """Once all tests of this process are over, nothing holds a domain that one of them lived in."""
    yield
    remove_stale_runs()  # Whoever kills the last process of a run leaves its anchor, until the next run begins.
    gc.collect()
    left = _open_segments()
    # The last test's own are still there: three a domain.
    assert len(left) < 3 * 10, f"still open after the last test: {left}"


class RealXenstored:
    """Debian's own xenstored, running without Xen; every client of ``path`` is domain 0."""

    def __init__(self, folder: Path, stand_in: Path) -> None:
        self.folder = folder
        self.path = str(folder / "socket")
        os.mkfifo(folder / "events")
        environment = {
            **os.environ,
            "XENSTORED_RUNDIR": str(folder),
            "XENSTORED_ROOTDIR": str(folder),
            "XENSTORED_PATH": self.path,
            "LD_PRELOAD": str(stand_in),
        }
        command = [str(XENSTORED), "-N", "-I", "--pid-file", str(folder / "pid")]
        self._process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        self._await_socket()

    def _await_socket(self) -> None:
        gate = threading.Event()
        for _ in range(int(PATIENCE / 0.005)):
            with socket.socket(socket.AF_UNIX) as trial:
                if trial.connect_ex(self.path) == 0:
                    return
            assert self._process.poll() is None, "xenstored ended at once"
            gate.wait(0.005)
        raise AssertionError("xenstored did not open its socket")

    def introduce(self, domid: int) -> None:
        """Let the domain exist and be introduced."""
        (self.folder / f"ring-{domid}").write_bytes(bytes(4096))
        (self.folder / f"dead-{domid}").unlink(missing_ok=True)
        with closing(StoreClient.connect(self.path)) as store:
            store._requests.introduce_domain(domid, 1, domid)

    def kill_domain(self, domid: int) -> None:
        """Let the domain die, as Xen would tell it."""
        (self.folder / f"dead-{domid}").touch()
        with open(self.folder / "events", "wb", buffering=0) as events:
            events.write(struct.pack("=I", DEATHS))

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait(PATIENCE)


@pytest.fixture(scope="session")
def xen_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile what lets Debian's xenstored run with no Xen underneath; skip where a package is missing."""
    if not XENSTORED.exists():
        pytest.skip("package xen-utils-4.17 is not installed")
    if not Path("/usr/include/xenctrl.h").exists():
        pytest.skip("package libxen-dev is not installed")
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("package gcc is not installed")
    library = tmp_path_factory.mktemp("xen") / "stand_in.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(STAND_IN_FOR_XEN), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


@pytest.fixture
def real_xenstored(xen_stand_in: Path, tmp_path: Path) -> Iterator[RealXenstored]:
    """Run Debian's own xenstored for one test."""
    folder = tmp_path / "xenstored"
    folder.mkdir()
    server = RealXenstored(folder, xen_stand_in)
    yield server
    server.close()


class OwnServer:
    """The project's server, with what :class:`RealXenstored` offers."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._store = stack.enter_context(running_store(folder))
        self.path = str(self._store)

    def introduce(self, domid: int) -> None:
        self._store.identity(domid)

    def kill_domain(self, domid: int) -> None:
        self._store.release(domid)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(params=["Debian's", "ours"])
def store_server(request: pytest.FixtureRequest) -> Iterator[RealXenstored | OwnServer]:
    """Run a store for one test: ``path``, ``introduce``, ``kill_domain``, and ``close`` which ends the server."""
    if request.param == "Debian's":
        yield request.getfixturevalue("real_xenstored")
        return
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="refimpl-") as folder:
        yield OwnServer(stack, Path(folder))
        stack.close()


C_HEADS = """
#include <stdio.h>
#include <stdlib.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#define __XEN_TOOLS__ 1
#define xen_mb() __sync_synchronize()
#define xen_rmb() __sync_synchronize()
#define xen_wmb() __sync_synchronize()
#include <xen/xen.h>
#include <xen/io/pvcalls.h>
"""


@pytest.fixture(scope="session")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Callable[[str], str]]:
    """``c_program(source)`` compiles a C program that may use Xen's public pvcalls.h and ring.h.

    What it returns runs it: takes its standard input, gives its standard output. Skips where a package is missing.
    """

    def compile_program(source: str) -> Callable[[str], str]:
        if not Path("/usr/include/xen/io/pvcalls.h").exists():
            pytest.skip("package libxen-dev is not installed")
        compiler = shutil.which("gcc")
        if compiler is None:
            pytest.skip("package gcc is not installed")
        folder = tmp_path_factory.mktemp("c_program")
        (folder / "program.c").write_text(C_HEADS + source)
        command = [compiler, "-w", "-O1", "-o", str(folder / "program"), str(folder / "program.c")]
        subprocess.run(command, check=True, capture_output=True)

        def run(standard_input: str = "") -> str:
            done = subprocess.run([str(folder / "program")], input=standard_input, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout

        return run

    return compile_program


@pytest.fixture(scope="session")
def c_values(c_program: Callable[[str], Callable[[str], str]]) -> Callable[[list[str]], list[int]]:
    """``c_values(expressions)``: what C expressions over the same headers come to."""

    def values(expressions: list[str]) -> list[int]:
        prints = "".join(f'printf("%ld\\n", (long)({expression}));\n' for expression in expressions)
        return [int(line) for line in c_program(f"int main(void) {{\n{prints}return 0; }}\n")().split()]

    return values
