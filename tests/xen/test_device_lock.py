"""One process holds a device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from refimpl.errors import DeviceInUse, PermissionRefused
from refimpl.xen.device_lock import DeviceLock


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    lock = DeviceLock("pvcalls-0", tmp_path)
    with pytest.raises(DeviceInUse) as caught:
        DeviceLock("pvcalls-0", tmp_path)
    assert (caught.value.device, caught.value.pid) == ("pvcalls-0", os.getpid())
    assert str(caught.value) == f"process {os.getpid()} holds pvcalls-0"
    DeviceLock("pvcalls-1", tmp_path).release()
    lock.release()
    lock.release()
    DeviceLock("pvcalls-0", tmp_path).release()


def test_the_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from refimpl.xen.device_lock import DeviceLock\n"
    program += "lock = DeviceLock('d', Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(DeviceInUse) as caught:
            DeviceLock("d", tmp_path)
        assert caught.value.pid == process.pid
        process.kill()
    DeviceLock("d", tmp_path).release()


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "refimpl-d.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionRefused, match="sudo rm"):
        DeviceLock("d", tmp_path)
    assert not (tmp_path / "elsewhere").exists()
