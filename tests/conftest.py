"""What tests of several folders share."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

XENSTORED = Path("/usr/lib/xen-4.17/bin/xenstored")
STAND_IN_FOR_XEN = Path(__file__).parent / "shm" / "store" / "xenstored_without_xen.c"
PATIENCE = 30.0

#: The port by which the stand-in tells xenstored that a domain died.
DEATHS = 60000


class RealXenstored:
    """Debian's own xenstored, running without Xen; every client of ``path`` is domain 0.

    ``add_domain`` lets domain 0 introduce a domid, ``kill_domain`` lets that domain die as Xen would tell it.
    """

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
            if (self.folder / "pid").exists() and (self.folder / "socket").exists():
                return
            assert self._process.poll() is None, "xenstored ended at once"
            gate.wait(0.005)
        raise AssertionError("xenstored did not open its socket")

    def environment(self) -> dict[str, str]:
        """Return the environment in which Debian's xenstore tools speak to this server."""
        return {**os.environ, "XENSTORED_PATH": self.path, "XENSTORED_RUNDIR": str(self.folder)}

    def add_domain(self, domid: int) -> None:
        """Let the domain exist, so that domain 0 may introduce it."""
        (self.folder / f"ring-{domid}").write_bytes(bytes(4096))
        (self.folder / f"dead-{domid}").unlink(missing_ok=True)

    def kill_domain(self, domid: int) -> None:
        """Let the domain die."""
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
