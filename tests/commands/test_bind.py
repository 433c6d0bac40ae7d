"""BIND: the request, and the backend's steps."""

from __future__ import annotations

import pytest

from refimpl.commands import bind
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.bind import BindRequest
from refimpl.commands.steps import BindSocket, FindSocket, SocketState

ADDRESS = InternetAddress("0.0.0.0", 8080)
REQUEST = BindRequest.make(3, 7, ADDRESS)


@pytest.mark.spec("BIND-3", "BIND-4")
def test_the_frontend_sends_16_bytes_of_address() -> None:
    assert BindRequest(3, 3, 7, ADDRESS.to_bytes(), 16) == REQUEST


@pytest.mark.spec("BIND-1", "RAT-6")
def test_the_backend_finds_the_socket_and_binds_it(carry_out, entry_in) -> None:
    run = carry_out(bind.steps(REQUEST), entry_in(SocketState.CREATED))
    assert run.steps == [FindSocket(7), BindSocket(run.steps[1].entry, ADDRESS)]


@pytest.mark.spec("BIND-6")
@pytest.mark.erratum("E-WRONGSTATE")
@pytest.mark.parametrize("state", [state for state in SocketState if state is not SocketState.CREATED])
def test_a_socket_with_an_address_is_not_bound_again(carry_out, entry_in, state: SocketState) -> None:
    run = carry_out(bind.steps(REQUEST), entry_in(state))
    assert (run.names, run.error_number) == (["FindSocket"], -22)


@pytest.mark.spec("BIND-4")
@pytest.mark.erratum("E-LEN")
@pytest.mark.parametrize("length", [15, 29])
def test_a_bad_length_is_refused(carry_out, entry_in, length: int) -> None:
    request = BindRequest(3, 3, 7, ADDRESS.to_bytes(), length)
    run = carry_out(bind.steps(request), entry_in(SocketState.CREATED))
    assert (run.names, run.error_number) == (["FindSocket"], -22)
