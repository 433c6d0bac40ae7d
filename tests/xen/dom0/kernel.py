"""What Linux complains about in its log, in dom0 and in guests."""

from __future__ import annotations

import re
import subprocess

_COMPLAINT = re.compile(
    r"WARNING:|BUG:|Oops|Call Trace|general protection|refcount_t:|blocked for more than|nobody cared|leaking g\.e\."
)


def log() -> str:
    """Return this domain's log."""
    return subprocess.check_output(["dmesg"], text=True, errors="replace")


def complaints(text: str) -> list[str]:
    """Return the lines of a log that say something is wrong."""
    return [line for line in text.splitlines() if _COMPLAINT.search(line)]
