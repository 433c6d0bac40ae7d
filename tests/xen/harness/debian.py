"""Debian's packages, unpacked side by side into one tree of their own: nothing is installed on this machine.

The tree has everything the harness needs: Xen, a kernel with its headers and source, a compiler, QEMU, Python. Versions
are whatever Debian has now; apt on this machine says which release that is.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

PACKAGES = [
    "xen-system-amd64",
    "xenstore-utils",
    "linux-image-amd64",
    # Linux's two PV Calls drivers are built from its source: no Debian kernel has them.
    "linux-headers-amd64",
    "linux-source",
    "make",
    "dash",
    "sed",
    "grep",
    "mawk",
    "coreutils",
    "findutils",
    # What runs in the domains, and what they run in.
    "python3",
    "busybox-static",
    "kmod",
    "qemu-system-x86",
]
#: Not unpacked: two thirds of the files and nothing anybody runs.
_LEFT_OUT = ["./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/share/info"]


class Unavailable(Exception):
    """This machine cannot get what the harness needs; the message says what and why."""


class Debian:
    """The unpacked packages, in ``cache / "root"``."""

    def __init__(self, cache: Path) -> None:
        self._apt = cache / "apt"
        self.root = cache / "root"

    @property
    def is_unpacked(self) -> bool:
        """Whether the tree is there, and of the packages asked for now."""
        try:
            return (self.root / ".packages").read_text().split("\n") == PACKAGES
        except OSError:
            return False

    def unpack(self) -> None:
        """Download the current versions of :data:`PACKAGES` and unpack them. Raises Unavailable."""
        archives = self._download()
        new = self.root.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        exclude = [f"--exclude={path}" for path in _LEFT_OUT]
        for archive in archives:
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as files:
                subprocess.run(["tar", "-x", "-C", new, "--no-same-owner", *exclude], stdin=files.stdout, check=True)
            if files.returncode:
                raise Unavailable(f"{archive} is damaged: remove it and try again")
        for link, target in {"usr/bin/awk": "mawk", "usr/bin/gcc": "gcc-12"}.items():
            if not (new / link).exists():
                (new / link).symlink_to(target)
        (new / "dev").mkdir(exist_ok=True)
        (new / "build").mkdir()
        (new / ".packages").write_text("\n".join(PACKAGES))
        shutil.rmtree(self.root, ignore_errors=True)
        new.rename(self.root)

    def _download(self) -> list[Path]:
        if platform.machine() != "x86_64":
            raise Unavailable(f"the packages are of x86-64, and this is {platform.machine()}")
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise Unavailable("QEMU and Xen come as Debian packages, and this machine has no apt-get")
        archives = self._apt / "cache/archives"
        for directory in (self._apt / "state/lists/partial", archives / "partial"):
            directory.mkdir(parents=True, exist_ok=True)
        (self._apt / "state/status").touch()
        configuration = self._apt / "apt.conf"
        configuration.write_text(
            f'Dir::State "{self._apt}/state";\nDir::State::status "{self._apt}/state/status";\n'
            f'Dir::Cache "{self._apt}/cache";\nDir::Log "{self._apt}";\nAPT::Architecture "amd64";\n'
            'APT::Architectures { "amd64"; };\nAPT::Install-Recommends "false";\nAPT::Sandbox::User "";\n'
        )
        environment = {**os.environ, "APT_CONFIG": str(configuration), "DEBIAN_FRONTEND": "noninteractive"}
        self._run(["apt-get", "-qq", "update"], environment)
        self._run(["apt-get", "-qq", "autoclean"], environment)  # Older versions than Debian has now.
        self._run(["apt-get", "-qq", "--yes", "--download-only", "install", *PACKAGES], environment)
        return sorted(archives.glob("*.deb"))

    def _run(self, command: list[str], environment: dict[str, str]) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"{' '.join(command[:3])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout
