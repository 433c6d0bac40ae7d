"""RELEASE: the request, and the backend's steps in the document's order."""

from __future__ import annotations

import pytest

from refimpl.commands import release
from refimpl.commands.release import ReleaseRequest
from refimpl.commands.steps import SocketState

LETTING_GO = ["CloseSocket", "UnmapDataRing", "UnmapIndexesPage", "UnbindEventChannel", "ForgetSocket"]


@pytest.mark.spec("RELEASE-6", "RELEASE-8")
@pytest.mark.erratum("E-REUSE")
def test_a_promise_to_reuse_the_ring_is_1_and_none_is_0() -> None:
    assert ReleaseRequest.make(1, 2) == ReleaseRequest(1, 2, 2, 0)
    assert ReleaseRequest.make(1, 2, reuse=True) == ReleaseRequest(1, 2, 2, 1)


@pytest.mark.spec("RELEASE-1", "RELEASE-3", "RELEASE-4")
@pytest.mark.erratum("E-SENDCLOSE")
def test_an_active_socket_is_drained_closed_and_unmapped_in_the_documents_order(carry_out, entry_in) -> None:
    run = carry_out(release.steps(ReleaseRequest.make(1, 7)), entry_in(SocketState.CONNECTED))
    assert run.names == ["FindSocketIfAny", "AnswerPending", "DrainOutput", *LETTING_GO]


@pytest.mark.spec("RELEASE-1", "RELEASE-2")
@pytest.mark.erratum("E-ACC-REL", "E-REL-SOCKETONLY")
@pytest.mark.parametrize("state", [SocketState.CREATED, SocketState.BOUND, SocketState.LISTENING])
def test_what_waits_on_another_socket_is_answered_first(carry_out, entry_in, state: SocketState) -> None:
    run = carry_out(release.steps(ReleaseRequest.make(1, 7)), entry_in(state))
    assert run.names == ["FindSocketIfAny", "AnswerPending", *LETTING_GO]
    assert run.error_number is None


@pytest.mark.spec("RELEASE-1")
@pytest.mark.erratum("E-REL-UNKNOWN")
def test_an_unknown_id_is_released_with_success(carry_out, entry_in) -> None:
    run = carry_out(release.steps(ReleaseRequest.make(1, 7)), entry_in(None))
    assert (run.names, run.error_number) == (["FindSocketIfAny"], None)


@pytest.mark.spec("RELEASE-12")
def test_a_second_release_while_the_first_goes_on_is_refused(carry_out, entry_in) -> None:
    run = carry_out(release.steps(ReleaseRequest.make(1, 7)), entry_in(SocketState.RELEASING))
    assert (run.names, run.error_number) == (["FindSocketIfAny"], -9)


@pytest.mark.spec("RELEASE-7", "RELEASE-9")
@pytest.mark.erratum("E-REUSE")
@pytest.mark.security("SEC-B-23")
@pytest.mark.parametrize("reuse", [0, 1, 2, 255])
@pytest.mark.parametrize("state", [SocketState.CONNECTED, SocketState.LISTENING])
def test_the_reuse_hint_changes_nothing(carry_out, entry_in, reuse: int, state: SocketState) -> None:
    run = carry_out(release.steps(ReleaseRequest(1, 2, 7, reuse)), entry_in(state))
    assert run.names[-5:] == LETTING_GO
