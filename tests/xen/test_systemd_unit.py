"""The unit that starts the backend in dom0, as far as a machine without Xen can tell."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "packaging/refimpl-backend.service"
COMMAND = "/opt/refimpl/bin/refimpl"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian's systemd)")
def test_systemd_has_nothing_to_say_against_it(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace(COMMAND, sys.executable))
    verified = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, timeout=60)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_its_command_is_one_that_refimpl_has() -> None:
    """Elsewhere than in dom0 it gets as far as looking for Xen."""
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program == COMMAND
    arguments[arguments.index("--policy") + 1] = "/dev/null"
    run = subprocess.run([sys.executable, "-m", "refimpl", *arguments], capture_output=True, text=True, timeout=60)
    assert "/dev/xen/" in run.stderr
    assert "Usage" not in run.stderr


@pytest.mark.security("SEC-B-21")
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian's systemd)")
def test_systemd_leaves_it_no_capability_and_no_low_ports() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--json=short", UNIT]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout)
    of_capabilities = [each for each in said if each["json_field"].startswith("CapabilityBoundingSet")]
    assert of_capabilities
    assert all(each["set"] for each in of_capabilities), of_capabilities
    assert re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE) == [""]
