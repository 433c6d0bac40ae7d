"""Results for programs: what JSON can say of our dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def plain(record: DataclassInstance) -> dict[str, Any]:
    """Return a dataclass's members, counters as plain objects (dataclasses.asdict cannot take a Counter apart)."""
    members = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in members.items()}
