"""A table of faults: each spoils one domain of the simple platform, and names the checks that must see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """``spoil(platform)`` changes the platform's behaviour; ``seen_by`` are names of checks."""

    spoil: Callable
    seen_by: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.spoil.__name__.replace("_", "-")


FAULTS: list[Fault] = []


def fault(group: str, *seen_by: str):
    """Declare a fault, with the checks of one group that must see it."""

    def declare(spoil):
        FAULTS.append(Fault(spoil, tuple(f"{group}.{name}" for name in seen_by)))
        return spoil

    return declare


def instead_of(target, name: str):
    """Replace ``target.name`` by a function that is given what it replaces as its first argument."""

    def replace(function):
        real = getattr(target, name)
        setattr(target, name, lambda *arguments, **options: function(real, *arguments, **options))
        return function

    return replace
