"""SOCKET, both sides' part that needs no ring."""

from __future__ import annotations

import pytest

from refimpl.commands import socket
from refimpl.commands.socket import SocketRequest
from refimpl.commands.steps import OpenSocket, ReserveId


@pytest.mark.spec("SOCKET-2", "FAMILY-1", "RING-8")
@pytest.mark.parametrize("id", [0, 1, 2**63, 2**64 - 1])
def test_the_frontend_asks_for_an_ipv4_stream_under_any_number(id: int) -> None:
    request = SocketRequest.make(5, id)
    assert SocketRequest.from_bytes(request.to_bytes()) == SocketRequest(5, 0, id, 2, 1, 0)


@pytest.mark.spec("SOCKET-1", "SOCKET-2")
def test_the_backend_claims_the_id_then_makes_the_socket(carry_out) -> None:
    run = carry_out(socket.steps(SocketRequest.make(5, 9)), {})
    assert run.steps == [ReserveId(9), OpenSocket(9)]
    assert run.error_number is None


@pytest.mark.spec("SOCKET-3", "SOCKET-7", "FAMILY-2")
def test_what_is_not_served_is_refused_before_anything_is_made(carry_out) -> None:
    run = carry_out(socket.steps(SocketRequest(1, 0, 9, domain=10, type=1, protocol=0)), {})
    assert (run.steps, run.error_number) == ([], -524)


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_step_that_fails_ends_the_command_with_its_number(carry_out, fail_at: int) -> None:
    run = carry_out(socket.steps(SocketRequest.make(5, 9)), {}, fail_at)
    assert (len(run.steps), run.error_number) == (fail_at + 1, -5)
