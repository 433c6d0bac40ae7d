"""What a probe is: a function, the requirements it tests, and the four ways it can end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[[Any], None])


class Verdict(StrEnum):
    """How a requirement came out. Where several probes are about one, the gravest counts: the last in this order."""

    NOT_OBSERVABLE = "not observable"
    PASS = "pass"
    DIFFERS = "differs"
    FAIL = "fail"


class Failed(AssertionError):
    """The requirement is not kept; the words say what was seen and what was to be seen."""


class Differs(Exception):
    """An erratum is about it, and the end chose another way than ours."""

    def __init__(self, erratum: str, seen: str) -> None:
        super().__init__(seen)
        self.erratum = erratum


class NotObservable(Exception):
    """It could not be seen this time; the words say why."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe; ``function`` takes the end's other side: a guest for a backend, what was observed for a frontend."""

    ids: tuple[str, ...]
    function: Callable[[Any], None]
    #: It does what no honest peer does.
    is_hostile: bool

    @property
    def name(self) -> str:
        """Where it is written: ``connect.a_refused_connect_maps_nothing``."""
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"

    @property
    def sentence(self) -> str:
        """What it says is so."""
        return (self.function.__doc__ or "").strip().splitlines()[0]


class Probes:
    """The probes of a section, in the order they are written; its instance decorates them."""

    def __init__(self, *, hostile: bool = False) -> None:
        self._hostile = hostile
        self.all: list[Probe] = []

    def __call__(self, *ids: str) -> Callable[[Function], Function]:
        """Decorate a function as the probe of these requirements."""

        def keep(function: Function) -> Function:
            self.all.append(Probe(ids, function, self._hostile))
            return function

        return keep


def expect(what: str, seen: object, wanted: object, *, under: str | None = None) -> None:
    """Go on if ``seen`` is ``wanted``, or one of a set of them.

    Raises Failed, or where an erratum leaves it open (``under``) Differs.
    """
    allowed: Collection[object] = wanted if isinstance(wanted, set | frozenset | range) else (wanted,)
    if seen in allowed:
        return
    said = " or ".join(repr(each) for each in sorted(allowed, key=repr)) if len(allowed) < 5 else f"{wanted}"
    complain(f"{what} is {seen!r}, not {said}", under=under)


def require(condition: object, otherwise: str, *, under: str | None = None) -> None:
    """Go on if the condition holds. Raises Failed, or where an erratum leaves it open Differs, with these words."""
    if not condition:
        complain(otherwise, under=under)


def complain(seen: str, *, under: str | None = None) -> None:
    """Raise Failed, or Differs where an erratum leaves it open."""
    if under is not None:
        raise Differs(under, seen)
    raise Failed(seen)
