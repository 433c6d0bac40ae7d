"""Small steps on xenstore's nodes that all of the toolstack takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from refimpl.errors import Misuse, StoreNoEntry
from refimpl.platform import StoreView

_FIRST_RESERVED_DOMID = 0x7FF0


def numbers_in(view: StoreView, path: str) -> list[int]:
    """Return the children of a directory that are numbers, sorted; of a missing one, none."""
    try:
        names = view.list(path)
    except StoreNoEntry:
        return []
    return sorted(int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]{0,8}", name))


def make_directory(view: StoreView, path: str, permissions: Sequence[str]) -> None:
    """Create a node, and its parents, and give it these permissions."""
    view.make_directory(path)
    view.set_permissions(path, permissions)


def remove_if_there(view: StoreView, path: str) -> None:
    """Remove a node with all below it; that its parent is missing is no error either."""
    with suppress(StoreNoEntry):
        view.remove(path)


def remove_with_empty_parents(view: StoreView, path: str, top: str) -> None:
    """Remove a node, and those above it, below ``top``, that have become empty."""
    remove_if_there(view, path)
    while (path := path.rpartition("/")[0]) != top:
        value = view.read_or_none(path)
        if value or (value is not None and view.list(path)):
            return
        remove_if_there(view, path)


def check_domids(*domids: int) -> None:
    """Refuse numbers that no domain can have. Raises Misuse."""
    for domid in domids:
        if not 0 <= domid < _FIRST_RESERVED_DOMID:
            raise Misuse(f"{domid} is no domid: they go from 0 to {_FIRST_RESERVED_DOMID - 1}")
