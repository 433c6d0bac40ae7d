"""The machine Xen boots on: QEMU in plain software emulation, on one processor, with one directory shared."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from image import Image, run_unpacked

#: What Xen 4.17 and a PV dom0 boot on under emulation: newer models have SMAP, under which dom0 dies at once.
_PROCESSOR = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"
_MEMORY = "2432"
_DOM0_MEMORY = "1152M"


def command(root: Path, image: Image, exchange: Path, processors: int) -> list[str | Path]:
    """Return the QEMU command for one boot."""
    qemu = run_unpacked(root, "usr/bin/qemu-system-x86_64")
    threads = "multi" if processors > 1 else "single"
    qemu += ["-accel", f"tcg,thread={threads}", "-cpu", _PROCESSOR, "-smp", str(processors), "-m", _MEMORY]
    qemu += ["-L", root / "usr/share/qemu", "-L", root / "usr/share/seabios", "-nodefaults", "-display", "none"]
    qemu += ["-no-reboot", "-serial", "stdio"]
    escaped = str(exchange).replace(",", ",,")
    qemu += ["-fsdev", f"local,id=exchange,path={escaped},security_model=none"]
    qemu += ["-device", "virtio-9p-pci,fsdev=exchange,mount_tag=exchange"]
    dom0 = "console=hvc0 quiet loglevel=4 panic=5"
    qemu += [
        "-kernel",
        image.xen,
        "-append",
        f"console=com1 com1=115200,8n1 dom0_mem={_DOM0_MEMORY},max:{_DOM0_MEMORY}",
    ]
    qemu += ["-initrd", f"{image.kernel} {dom0},{exchange}/system.cpio"]
    return qemu


class Machine:
    """One boot, from power on to power off."""

    def __init__(self, qemu: list[str | Path], root: Path, log: Path) -> None:
        self._qemu, self._log = qemu, log
        self._environment = {**os.environ, "QEMU_MODULE_DIR": str(root / "usr/lib/x86_64-linux-gnu/qemu")}

    def run(self, time_limit: float, show: Callable[[float, str], None]) -> bool:
        """Boot and wait until the machine is switched off; every line of its console goes to the log and to ``show``.

        Returns False if it had to be stopped when its time was over.
        """
        start = time.monotonic()
        with (
            self._log.open("w") as log,
            subprocess.Popen(
                ["nice", "-n", "10", *self._qemu],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            overtime = threading.Timer(time_limit, process.kill)
            overtime.start()
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    seconds = time.monotonic() - start
                    text = line.decode(errors="replace").rstrip()
                    log.write(f"{seconds:8.2f} {text}\n")
                    log.flush()
                    show(seconds, text)
            except BaseException:
                process.kill()
                raise
            finally:
                overtime.cancel()
        return time.monotonic() - start < time_limit

    def run_interactive(self) -> None:
        """Boot with the console on this terminal."""
        subprocess.run(self._qemu, env=self._environment, stdin=sys.stdin, check=False)
