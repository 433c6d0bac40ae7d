"""LISTEN: the request, and the backend's steps."""

from __future__ import annotations

import pytest

from refimpl.commands import listen
from refimpl.commands.listen import ListenRequest
from refimpl.commands.steps import FindSocket, ListenOnSocket, SocketState


@pytest.mark.spec("LISTEN-2")
def test_the_frontend_sends_its_backlog() -> None:
    assert ListenRequest.make(3, 7, 128) == ListenRequest(3, 4, 7, 128)


@pytest.mark.spec("LISTEN-1")
@pytest.mark.parametrize("state", [SocketState.BOUND, SocketState.LISTENING])
@pytest.mark.parametrize("backlog", [0, 1, 2**32 - 1])
def test_the_backend_listens_on_a_bound_socket(carry_out, entry_in, state: SocketState, backlog: int) -> None:
    run = carry_out(listen.steps(ListenRequest.make(3, 7, backlog)), entry_in(state))
    assert run.steps == [FindSocket(7), ListenOnSocket(run.steps[1].entry, backlog)]


@pytest.mark.spec("BIND-2", "LISTEN-4")
@pytest.mark.erratum("E-WRONGSTATE")
@pytest.mark.parametrize("state", [SocketState.CREATED, SocketState.CONNECTED, SocketState.CONNECTING])
def test_a_socket_not_bound_is_refused(carry_out, entry_in, state: SocketState) -> None:
    run = carry_out(listen.steps(ListenRequest.make(3, 7, 1)), entry_in(state))
    assert (run.names, run.error_number) == (["FindSocket"], -22)
