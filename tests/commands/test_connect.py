"""CONNECT: the request, and the backend's steps in the document's order."""

from __future__ import annotations

import pytest

from refimpl.commands import connect
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.connect import ConnectRequest
from refimpl.commands.steps import BindEventChannel, ConnectSocket, FindSocket, MapIndexesPage, SocketState

ADDRESS = InternetAddress("192.0.2.1", 80)
REQUEST = ConnectRequest.make(3, 7, ADDRESS, ref=11, evtchn=13)
STEPS = ["FindSocket", "ConnectSocket", "MapIndexesPage", "MapDataRing", "BindEventChannel", "StartDataRing"]


@pytest.mark.spec("CONNECT-2", "CONNECT-4", "CONNECT-14", "CONNECT-15")
@pytest.mark.erratum("E-FLAGS")
def test_the_frontend_sends_16_bytes_of_address_and_no_flags() -> None:
    assert (REQUEST.cmd, REQUEST.len, REQUEST.flags) == (1, 16, 0)
    assert (REQUEST.addr, REQUEST.ref, REQUEST.evtchn) == (ADDRESS.to_bytes(), 11, 13)


@pytest.mark.spec("CONNECT-5", "CONNECT-6", "CONNECT-7", "CONNECT-8")
@pytest.mark.erratum("E-MAPORDER")
def test_the_backend_finds_connects_maps_the_page_then_the_ring(carry_out, entry_in) -> None:
    run = carry_out(connect.steps(REQUEST), entry_in(SocketState.CREATED))
    assert run.names[:4] == STEPS[:4]
    entry = run.steps[1].entry
    assert run.steps[:3] == [FindSocket(7), ConnectSocket(entry, ADDRESS), MapIndexesPage(entry, 11)]


@pytest.mark.spec("CONNECT-1", "CONNECT-9", "CONNECT-10")
def test_then_it_binds_the_event_channel_and_only_then_answers(carry_out, entry_in) -> None:
    run = carry_out(connect.steps(REQUEST), entry_in(SocketState.BOUND))
    assert run.names == STEPS
    assert run.steps[4] == BindEventChannel(run.steps[1].entry, 13)
    assert run.error_number is None


@pytest.mark.parametrize("fail_at", range(len(STEPS)))
def test_no_step_follows_one_that_failed(carry_out, entry_in, fail_at: int) -> None:
    run = carry_out(connect.steps(REQUEST), entry_in(SocketState.CREATED), fail_at)
    assert run.names == STEPS[: fail_at + 1]
    assert run.error_number == -5


@pytest.mark.spec("CONNECT-17")
@pytest.mark.erratum("E-WRONGSTATE")
@pytest.mark.parametrize(
    ("state", "error_number"),
    [
        (SocketState.CONNECTED, -106),
        (SocketState.CONNECTING, -114),
        (SocketState.LISTENING, -95),
        (SocketState.RELEASING, -9),
    ],
)
def test_a_socket_in_another_state_is_refused_untouched(carry_out, entry_in, state, error_number) -> None:
    run = carry_out(connect.steps(REQUEST), entry_in(state))
    assert (run.names, run.error_number) == (["FindSocket"], error_number)


@pytest.mark.spec("CONNECT-14")
@pytest.mark.erratum("E-LEN")
def test_a_bad_length_is_refused_before_connecting(carry_out, entry_in) -> None:
    request = ConnectRequest(3, 1, 7, ADDRESS.to_bytes(), 29, 0, 11, 13)
    run = carry_out(connect.steps(request), entry_in(SocketState.CREATED))
    assert (run.names, run.error_number) == (["FindSocket"], -22)


@pytest.mark.spec("CONNECT-15")
@pytest.mark.erratum("E-FLAGS")
def test_flags_are_ignored(carry_out, entry_in) -> None:
    request = ConnectRequest(3, 1, 7, ADDRESS.to_bytes(), 16, 0x800, 11, 13)
    assert carry_out(connect.steps(request), entry_in(SocketState.CREATED)).error_number is None
