"""The scenarios, each a file dom0/test_NAME.py, and which of them share a boot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DOM0 = Path(__file__).resolve().parent.parent / "dom0"


@dataclass(frozen=True)
class Boot:
    """Scenarios that follow each other in one boot, which has memory for so many ``guests`` at a time."""

    scenarios: tuple[str, ...]
    guests: int = 1

    @property
    def name(self) -> str:
        """What it is called on the console, and its results in the cache."""
        return self.scenarios[0]


#: Everything, the longest boot first: then those that run side by side end about together. A boot of its own has what
#: uses Linux's drivers, which take the device of whatever guest there is; what breaks dom0's driver ends with the boot.
BOOTS = (
    Boot(("matrix",), guests=2),
    Boot(("conformance", "platform", "unprivileged"), guests=2),
    Boot(("lifecycle", "deaths", "restore"), guests=3),
    Boot(("conform", "readme")),
    Boot(("conform_hostile",)),
    Boot(("linux_oops",)),
)
#: What runs only when it is named: these measure, and say nothing that could fail.
ONLY_BY_NAME = (Boot(("speed",)), Boot(("profile",)))


def names() -> list[str]:
    """Return the names of all scenarios."""
    return sorted(name for boot in (*BOOTS, *ONLY_BY_NAME) for name in boot.scenarios)


def chosen(wanted: list[str]) -> list[Boot]:
    """Return the boots that have the wanted scenarios, and nothing else in them; of none, all that are usual."""
    if not wanted:
        return list(BOOTS)
    parts = [Boot(tuple(n for n in boot.scenarios if n in wanted), boot.guests) for boot in (*BOOTS, *ONLY_BY_NAME)]
    return [part for part in parts if part.scenarios]


def file_of(name: str) -> Path:
    """Return a scenario's file."""
    return DOM0 / f"test_{name}.py"
