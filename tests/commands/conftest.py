"""A backend that carries out a command's steps from a table, and can fail any one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from refimpl.commands import steps as all_steps
from refimpl.commands.steps import SocketState, Steps
from refimpl.errors import CommandRefused


@dataclass
class Entry:
    """What a command sees of a socket."""

    id: int = 7
    state: SocketState = SocketState.CREATED


@dataclass
class Run:
    """What a command did: the steps it took, and how it ended."""

    steps: list[Any] = field(default_factory=list)
    error_number: int | None = None

    @property
    def names(self) -> list[str]:
        return [type(step).__name__ for step in self.steps]


def _carry_out(steps: Steps, results: Mapping[type, Any], fail_at: int | None = None) -> Run:
    run, result = Run(), None
    try:
        while True:
            step = steps.send(result)
            run.steps.append(step)
            if fail_at == len(run.steps) - 1:
                raise CommandRefused(-5, "this step fails")
            result = results.get(type(step))
    except StopIteration:
        return run
    except CommandRefused as refused:
        steps.close()
        run.error_number = refused.error_number
        return run


@pytest.fixture
def carry_out() -> Callable[..., Run]:
    """``carry_out(steps, {StepType: result}, fail_at=None) -> Run``."""
    return _carry_out


@pytest.fixture
def entry_in() -> Callable[[SocketState | None], dict[type, Any]]:
    """``entry_in(state)``: results of a backend whose table has one socket in that state, or none (None)."""

    def results(state: SocketState | None) -> dict[type, Any]:
        if state is None:
            return {}
        entry = Entry(state=state)
        return {
            all_steps.FindSocket: entry,
            all_steps.FindSocketIfAny: entry,
            all_steps.AcceptConnection: Entry(id=8, state=SocketState.CREATED),
        }

    return results
