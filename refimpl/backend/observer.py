"""Who wants to see what guests do: every request, step, response and state, before and after it happens.

Nothing is observed unless an observer is given, and then no more than one comparison is paid for each.
"""

from __future__ import annotations

from typing import Any

from refimpl.backend.policy import Decision
from refimpl.commands.steps import Step
from refimpl.xenstore.state_machine import XenbusState


class Observer:
    """Sees a backend's work, from the event loop's thread; subclass what you want to see.

    ``guest`` is the frontend's domid, ``request`` one of the commands' request structures.
    An exception raised here ends the backend: it is a bug, not a guest's doing.
    """

    def state_changed(self, guest: int, state: XenbusState) -> None:
        """Our own XenBus state for this guest is now ``state``."""

    def request_taken(self, guest: int, request: Any) -> None:
        """A request was taken off the commands ring and decoded."""

    def decided(self, guest: int, request: Any, decision: Decision) -> None:
        """A rule of the policy speaks of the request; nothing of it is done yet. Not called where none does."""

    def step_begun(self, guest: int, request: Any, step: Step) -> None:
        """A step of a command is about to be carried out."""

    def response_put(self, guest: int, request: Any, ret: int, reason: str) -> None:
        """A command has ended with ``ret``; ``reason`` says why it was refused, in words."""

    def warned(self, guest: int, message: str) -> None:
        """A guest did what it should not, or could not be served; one line for a log."""
