"""The backends of the matrix, in dom0: refimpl's in this process; Linux's, as Debian has it and with upstream's fix."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from refimpl.backend import Backend, Policy, Settings
from refimpl.xen import XenPlatform

_MODULES = Path("/usr/lib/refimpl-xen")
NAMES = ("refimpl", "linux", "linux-fixed")


def load(module: str) -> None:
    """Load one of Linux's drivers."""
    subprocess.run(["insmod", _MODULES / f"{module}.ko"], check=True)


def _unload(module: str, patience: float = 30) -> None:
    """Unload a driver, once it has let go of the devices of guests that are no more."""
    deadline = time.monotonic() + patience
    while subprocess.run(["rmmod", module], capture_output=True).returncode:
        assert time.monotonic() < deadline, f"{module} does not let go"
        time.sleep(0.1)


@contextlib.contextmanager
def running(name: str) -> Iterator[XenPlatform | None]:
    """Have a backend that serves every guest, for a block; of refimpl's, the platform it runs on."""
    if name == "refimpl":
        with XenPlatform.open() as platform:
            backend = Backend(platform, Settings(policy=Policy(allow_everything=True)))
            backend.start()
            try:
                yield platform
            finally:
                backend.stop()
        return
    module = {"linux": "pvcalls-back", "linux-fixed": "pvcalls-back-fixed"}[name]
    load(module)
    try:
        yield None
    finally:
        _unload(module.replace("-", "_"))
