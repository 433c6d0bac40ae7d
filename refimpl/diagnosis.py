"""What `refimpl doctor` finds: one thing about this machine a finding, and what mends it."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """``platform`` is ``"shm"`` or ``"xen"``; ``remedy`` is a command, empty where there is nothing to do."""

    platform: str
    subject: str
    is_fine: bool
    says: str
    remedy: str = ""
