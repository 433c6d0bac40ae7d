"""What Linux complains about in its log, in dom0 and in guests."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

_COMPLAINT = re.compile(
    r"WARNING:|BUG:|Oops|general protection|refcount_t:|blocked for more than|nobody cared|leaking g\.e\."
)
_TRACE_ENDS = re.compile(r"</TASK>|end trace")
#: No complaint is told in more lines.
_LONGEST = 80
#: Linux's frontend, in connect and accept, binds an event channel while it holds a spinlock. That sleeps now and then,
#: when another thread allocates an interrupt too; the sleep for the response that follows is then told as well. Mended
#: in later kernels, not in 6.1.
SLEEPS_IN_A_LOCK = re.compile(r"scheduling while atomic.* (create_active|pvcalls_front_wait_rsp)\+", re.DOTALL)


def log() -> str:
    """Return this domain's log."""
    return subprocess.check_output(["dmesg"], text=True, errors="replace")


def complaints(text: str) -> list[str]:
    """Return the pieces of a log that say something is wrong, each to the end of its call trace."""
    return list(_pieces(text.splitlines()))


def _pieces(lines: list[str]) -> Iterator[str]:
    number = 0
    while number < len(lines):
        length = 1
        if _COMPLAINT.search(lines[number]):
            trace = lines[number : number + _LONGEST]
            length = next((n for n, line in enumerate(trace, 1) if _TRACE_ENDS.search(line)), 1)
            yield "\n".join(trace[:length])
        number += length
