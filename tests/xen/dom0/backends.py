"""The backends of the matrix, in dom0: refimpl's in this process; Linux's, as Debian has it and with upstream's fix."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from refimpl.backend import Backend, Policy, Settings
from refimpl.xen import XenPlatform

_MODULES = Path("/usr/lib/refimpl-xen")
NAMES = ("refimpl", "linux", "linux-fixed")


def load(module: str) -> None:
    """Load one of Linux's drivers."""
    subprocess.run(["insmod", _MODULES / f"{module}.ko"], check=True)


@contextlib.contextmanager
def running(name: str) -> Iterator[None]:
    """Have a backend that serves every guest, for a block."""
    if name == "refimpl":
        with XenPlatform.open() as platform:
            backend = Backend(platform, Settings(policy=Policy(allow_everything=True)))
            backend.start()
            try:
                yield
            finally:
                backend.stop()
        return
    module = {"linux": "pvcalls-back", "linux-fixed": "pvcalls-back-fixed"}[name]
    load(module)
    try:
        yield
    finally:
        subprocess.run(["rmmod", module.replace("-", "_")], check=True)
