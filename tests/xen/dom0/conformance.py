"""`refimpl conform` over real Xen: run it, and leave its reports where the harness takes them to build/conformance."""

from __future__ import annotations

import json
import platform
import subprocess
from typing import Any

from guests import RESULTS, Guest

#: What the reports' files are called after, and what they say was probed.
SUBJECTS = {
    "refimpl": ("refimpl-xen", "refimpl"),
    "linux": (f"linux-{'.'.join(platform.release().split('.')[:2])}", f"Linux {platform.release()}"),
}


def keep(name: str, report: str, table: str) -> dict[str, Any]:
    """Write a report's two files; return what the JSON says."""
    (RESULTS / f"{name}.conform.json").write_text(report)
    (RESULTS / f"{name}.conform.txt").write_text(table)
    print(table)
    whole: dict[str, Any] = json.loads(report)
    return whole


def probe_backend(guest: Guest, who: str, *options: str, kind: str = "backend", timeout: float = 400) -> dict[str, Any]:
    """Probe the backend that serves a guest; return the report."""
    file, subject = SUBJECTS[who]
    words = f"python3 -m refimpl conform backend --platform xen --subject '{subject}' --write /tmp/report"
    output, status = guest.attempt(f"{words} {' '.join(options)}", timeout=timeout)
    assert status in (0, 1), output.decode()
    print(output.decode())
    return keep(f"{file}-{kind}", guest.run("cat /tmp/report.json"), guest.run("cat /tmp/report.txt"))


class FrontendProbing:
    """`refimpl conform frontend` in dom0, which runs before the guest is made: xl waits for a backend."""

    def __init__(self, who: str) -> None:
        self._file, subject = SUBJECTS[who]
        words = ["python3", "-m", "refimpl", "conform", "frontend", "--platform", "xen", "--seconds", "200"]
        words += ["--subject", subject, "--write", "/tmp/report"]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL)

    def report(self) -> dict[str, Any]:
        """Wait for its end and return the report."""
        assert self._process.wait(120) in (0, 1)
        with open("/tmp/report.json") as report, open("/tmp/report.txt") as table:
            return keep(f"{self._file}-frontend", report.read(), table.read())

    def __enter__(self) -> FrontendProbing:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def failed(report: dict[str, Any]) -> dict[str, str]:
    """Return what a report says failed: id -> what was seen."""
    lines = [line for section in report["sections"] for line in section["requirements"]]
    return {line["id"]: line["seen"] for line in lines if line["verdict"] == "fail"}
