"""POLL: the request, and the backend's steps."""

from __future__ import annotations

import pytest

from refimpl.commands import poll
from refimpl.commands.poll import PollRequest
from refimpl.commands.steps import FindSocket, SocketState, WaitForConnection


@pytest.mark.spec("POLL-4")
def test_the_frontend_sends_the_listeners_id() -> None:
    assert PollRequest.make(3, 7) == PollRequest(3, 6, 7)


@pytest.mark.spec("POLL-3")
def test_the_backend_waits_on_a_listener(carry_out, entry_in) -> None:
    run = carry_out(poll.steps(PollRequest.make(3, 7)), entry_in(SocketState.LISTENING))
    assert run.steps == [FindSocket(7), WaitForConnection(run.steps[1].entry)]


@pytest.mark.spec("POLL-1")
@pytest.mark.erratum("E-POLL-ACTIVE", "E-POLL-NOTLISTEN")
@pytest.mark.parametrize("state", [state for state in SocketState if state is not SocketState.LISTENING])
def test_any_other_socket_is_refused_at_once(carry_out, entry_in, state: SocketState) -> None:
    run = carry_out(poll.steps(PollRequest.make(3, 7)), entry_in(state))
    assert (run.names, run.error_number) == (["FindSocket"], -22)
