"""What a conformance check is, and the few words checks are written in.

A check is a function whose docstring states, in one sentence, what any platform must do. It is given the live domains
it asks for, or the factory itself, and raises AssertionError. It is plain Python: nothing here needs pytest, and
nothing is lost under ``python -O``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from refimpl.testing.conformance.factory import Factory


class Skipped(Exception):
    """The platform under test, as it is run here, cannot show what the check asks for; the message says why."""


@dataclass(frozen=True)
class Check:
    """One conformance check.

    ``peers`` live domains are handed to ``function``, as one :class:`Peers`; with 0 it gets the factory. ``needs``
    names the factory's capabilities without which the check is skipped.
    """

    group: str
    function: Callable[[Any], None]
    peers: int
    needs: tuple[str, ...]

    @property
    def name(self) -> str:
        """``group.what-is-checked``, unique."""
        return f"{self.group}.{self.function.__name__.replace('_', '-')}"

    @property
    def sentence(self) -> str:
        """What any platform must do."""
        return (self.function.__doc__ or "").strip().partition("\n\n")[0].replace("\n    ", " ")

    def run(self, factory: Factory) -> None:
        """Run the check. Raises AssertionError where the platform is wrong, Skipped where it cannot be asked."""
        for need in self.needs:
            if not getattr(factory, need):
                raise Skipped(f"{factory.name}: no {need.replace('_', ' ')}")
        if not self.peers:
            self.function(factory)
            return
        with factory.peers(self.peers) as peers:
            self.function(peers)


#: Every check, in the order they were declared.
CHECKS: list[Check] = []


def check(
    group: str, *, peers: int = 2, needs: Iterable[str] = ()
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Declare a check (decorator)."""

    def declare(function: Callable[[Any], None]) -> Callable[[Any], None]:
        CHECKS.append(Check(group, function, peers, tuple(needs)))
        return function

    return declare


def run_group(group: str, factory: Factory) -> list[str]:
    """Run a group's checks and return the names of those that ran.

    Raises AssertionError after all of them, with a line for each that failed.
    """
    ran, failures = [], []
    for each in [c for c in CHECKS if c.group == group]:
        try:
            each.run(factory)
        except Skipped:
            continue
        except Exception as error:
            failures.append(f"{each.name}: {type(error).__name__}: {error}")
        ran.append(each.name)
    if failures:
        raise AssertionError(f"{len(failures)} of {len(ran)} checks failed:\n" + "\n".join(failures))
    return ran


def demand(condition: object, message: str) -> None:
    """Raise AssertionError unless the condition holds, also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def demand_equal(found: object, expected: object, what: str) -> None:
    """Raise AssertionError with both values unless they are equal."""
    if found != expected:
        raise AssertionError(f"{what}: found {_shown(found)}, expected {_shown(expected)}")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:160]}... ({len(shown)} characters)"


@contextmanager
def refused(kind: type[BaseException] | tuple[type[BaseException], ...], what: str) -> Iterator[None]:
    """Demand that the block raises ``kind``; ``what`` says what was tried."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = " or ".join(k.__name__ for k in kinds)
    try:
        yield
    except kinds:
        return
    except Exception as error:
        raise AssertionError(f"{what}: raised {type(error).__name__} ({error}), not {names}") from error
    raise AssertionError(f"{what}: succeeded, {names} expected")


class Work:
    """A function running in a thread of its own, whose end can be waited for and whose error is not lost."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(function, *arguments), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._result = function(*arguments)
        except BaseException as error:
            self._error = error

    def result(self, patience: float, what: str) -> Any:
        """Return what the function returned, or raise what it raised; AssertionError if it does not end in time."""
        self._thread.join(patience)
        if self._thread.is_alive():
            raise AssertionError(f"{what}: not done after {patience:g} s")
        if self._error is not None:
            raise self._error
        return self._result
