"""ACCEPT: the request, and the backend's steps in the document's order."""

from __future__ import annotations

import pytest

from refimpl.commands import accept
from refimpl.commands.accept import AcceptRequest
from refimpl.commands.steps import (
    AcceptConnection,
    BindEventChannel,
    FindSocket,
    MapIndexesPage,
    ReserveId,
    SocketState,
)

REQUEST = AcceptRequest.make(3, 7, 8, ref=11, evtchn=13)
STEPS = [
    "FindSocket", "ReserveId", "AcceptConnection", "MapIndexesPage", "MapDataRing", "BindEventChannel", "StartDataRing",
]  # fmt: skip


@pytest.mark.spec("ACCEPT-2", "ACCEPT-3", "ACCEPT-4", "ACCEPT-5")
def test_the_frontend_sends_the_new_sockets_id_ref_and_event_channel() -> None:
    assert AcceptRequest(3, 5, 7, 8, 11, 13) == REQUEST


@pytest.mark.spec("ACCEPT-1", "ACCEPT-2", "ACCEPT-7", "ACCEPT-9")
@pytest.mark.erratum("E-ACC-MAPTIME")
def test_the_backend_waits_for_a_connection_before_it_maps_anything(carry_out, entry_in) -> None:
    run = carry_out(accept.steps(REQUEST), entry_in(SocketState.LISTENING))
    assert run.names == STEPS
    listener, new = run.steps[2].entry, run.steps[3].entry
    assert run.steps[:3] == [FindSocket(7), ReserveId(8), AcceptConnection(listener, 8)]
    assert run.steps[3] == MapIndexesPage(new, 11)


@pytest.mark.spec("ACCEPT-10", "ACCEPT-11", "ACCEPT-12")
def test_then_it_maps_the_ring_and_binds_the_event_channel(carry_out, entry_in) -> None:
    run = carry_out(accept.steps(REQUEST), entry_in(SocketState.LISTENING))
    assert run.names[4:] == STEPS[4:]
    assert run.steps[5] == BindEventChannel(run.steps[3].entry, 13)


@pytest.mark.parametrize("fail_at", range(len(STEPS)))
def test_no_step_follows_one_that_failed(carry_out, entry_in, fail_at: int) -> None:
    run = carry_out(accept.steps(REQUEST), entry_in(SocketState.LISTENING), fail_at)
    assert (run.names, run.error_number) == (STEPS[: fail_at + 1], -5)


@pytest.mark.spec("BIND-2", "ACCEPT-15")
@pytest.mark.erratum("E-WRONGSTATE")
@pytest.mark.parametrize("state", [state for state in SocketState if state is not SocketState.LISTENING])
def test_a_socket_that_does_not_listen_is_refused_and_no_id_is_claimed(carry_out, entry_in, state) -> None:
    run = carry_out(accept.steps(REQUEST), entry_in(state))
    assert (run.names, run.error_number) == (["FindSocket"], -22)
