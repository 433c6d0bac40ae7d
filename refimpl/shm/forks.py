"""After a fork the child owns nothing of its parent's domains and runs: what holds some lets go of it here.

``subprocess`` and ``posix_spawn`` need none of this: every descriptor is closed on exec.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Owner(Protocol):
    """Something a forked child must not keep."""

    def abandon(self) -> None:
        """Let go in the child, in a way that the parent does not notice."""


_owners: WeakSet[Owner] = WeakSet()


def abandon_in_child(owner: Owner) -> None:
    """See to it that every forked child abandons ``owner``, as long as it exists."""
    _owners.add(owner)


def _after_fork_in_child() -> None:
    for owner in list(_owners):
        owner.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
