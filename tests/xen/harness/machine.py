"""The machine Xen boots on: QEMU in plain software emulation, on one processor, with one directory shared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from image import Image, run_unpacked

#: What Xen 4.17 and a PV dom0 boot on under emulation: newer models have SMAP, under which dom0 dies at once. Without
#: RDRAND every boot waits a second and a half for randomness.
#: SVM with nested pages is for guests of Xen's that are not paravirtualised.
_PROCESSOR = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand,+svm,+npt"
#: MiB of dom0, of each guest, of Xen itself, and of QEMU's translated code.
_DOM0, GUEST, _XEN, _TRANSLATED = 480, 240, 96, 128
#: The first file system of dom0 and guests holds the image whole: it must not stop at half of their memory. What guards
#: a processor against its own speculation only costs an emulated one time.
LINUX = "console=hvc0 quiet loglevel=4 panic=5 rootfstype=ramfs mitigations=off init_on_alloc=0"


def memory_for(guests: int) -> int:
    """Return how many MiB a machine has, for so many guests at a time."""
    return _XEN + _DOM0 + guests * GUEST


def machines_at_once(wanted: list[int]) -> int:
    """Return how many machines this computer runs side by side: a processor each, and memory (MiB) for the largest."""
    (available,) = re.findall(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    largest = sum(sorted(wanted)[-2:]) + 2 * _TRANSLATED
    return 2 if len(os.sched_getaffinity(0)) > 1 and int(available) / 1024 > largest else 1


def command(root: Path, image: Image, exchange: Path, memory: int, processors: int) -> list[str | Path]:
    """Return the QEMU command for one boot, with ``memory`` in MiB."""
    qemu = run_unpacked(root, "usr/bin/qemu-system-x86_64")
    threads = "multi" if processors > 1 else "single"
    qemu += ["-accel", f"tcg,thread={threads},tb-size={_TRANSLATED}", "-cpu", _PROCESSOR]
    qemu += ["-smp", str(processors), "-m", str(memory)]
    qemu += ["-L", root / "usr/share/qemu", "-L", root / "usr/share/seabios", "-nodefaults", "-display", "none"]
    qemu += ["-no-reboot", "-serial", "stdio"]
    escaped = str(exchange).replace(",", ",,")
    qemu += ["-fsdev", f"local,id=exchange,path={escaped},security_model=none"]
    qemu += ["-device", "virtio-9p-pci,fsdev=exchange,mount_tag=exchange"]
    qemu += [
        "-kernel",
        image.xen,
        "-append",
        f"console=com1 com1=115200,8n1 spec-ctrl=no dom0_mem={_DOM0}M,max:{_DOM0}M",
    ]
    qemu += ["-initrd", f"{image.kernel} {LINUX},{exchange}/system.cpio"]
    return qemu


class Machine:
    """One boot, from power on to power off."""

    _running: ClassVar[set[subprocess.Popen[bytes]]] = set()

    def __init__(self, qemu: list[str | Path], root: Path, log: Path) -> None:
        self._qemu, self._log = qemu, log
        self._environment = {**os.environ, "QEMU_MODULE_DIR": str(root / "usr/lib/x86_64-linux-gnu/qemu")}
        #: How long it ran.
        self.seconds = 0.0

    def run(self, time_limit: float, show: Callable[[float, str], None]) -> None:
        """Boot and wait until the machine is switched off; every line of its console goes to the log and to ``show``.

        When its time is over it is stopped, and says so there.
        """
        start = time.monotonic()
        with self._log.open("w") as log, self._start() as process:
            overtime = threading.Timer(time_limit, process.kill)
            overtime.start()
            self._running.add(process)
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    self.seconds = time.monotonic() - start
                    text = line.decode(errors="replace").rstrip()
                    log.write(f"{self.seconds:8.2f} {text}\n")
                    log.flush()
                    show(self.seconds, text)
            finally:
                overtime.cancel()
                process.kill()
                self._running.discard(process)
        if self.seconds >= time_limit:
            show(self.seconds, f"stopped after {time_limit:.0f} s")

    def _start(self) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(["nice", "-n", "10", *self._qemu], env=self._environment, **pipes)

    @classmethod
    def kill_all(cls) -> None:
        """Stop all machines that run."""
        for process in tuple(cls._running):
            process.kill()

    def run_interactive(self) -> None:
        """Boot with the console on this terminal."""
        subprocess.run(self._qemu, env=self._environment, stdin=sys.stdin, check=False)
