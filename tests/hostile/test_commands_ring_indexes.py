"""A commands ring whose other end writes any index, at any time, and changes what it has sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.commands.ring import (
    RESPONSE_SIZE_BYTES,
    RING_SLOTS,
    slot_offset,
)
from refimpl.errors import PeerViolation
from refimpl.testing.ring_ends import EDGES, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, make_ends, request, response

INDEX = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**32 - 1))


@pytest.mark.security("SEC-B-1")
@pytest.mark.parametrize("start_index", EDGES)
@pytest.mark.parametrize("ahead", [33, 34, 64, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 32, 2**32 - 1])
def test_backend_refuses_an_impossible_req_prod(start_index: int, ahead: int) -> None:
    _, words, _, back = make_ends(start_index)
    words[REQ_PROD] = lie = (start_index + ahead) % 2**32
    for look in (back.take_request, back.final_check):
        with pytest.raises(PeerViolation) as caught:
            look()
        violation = caught.value
        assert (violation.requirement, violation.field, violation.value) == ("SEC-B-1", "req_prod", lie)
        assert violation.peer == 7
    assert back.owed == 0


@pytest.mark.security("SEC-B-1", "SEC-B-4")
@given(INDEX, st.lists(st.tuples(st.booleans(), st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1))), max_size=60))
def test_backend_never_owes_more_than_it_can_answer(start_index: int, moves: list[tuple[bool, int]]) -> None:
    _, words, _, back = make_ends(start_index)
    produced = start_index
    for answer, ahead in moves:
        if answer and back.owed:
            back.push_response(response(0))
        words[REQ_PROD] = produced = (produced + ahead) % 2**32
        try:
            for _ in range(100):
                if back.take_request() is None:
                    break
            else:
                pytest.fail("requests without end")
        except PeerViolation:
            produced = start_index
        assert 0 <= back.owed <= RING_SLOTS


@pytest.mark.security("SEC-F-1")
@pytest.mark.parametrize("start_index", EDGES)
@pytest.mark.parametrize("outstanding", [0, 1, 32])
def test_frontend_refuses_more_responses_than_requests(start_index: int, outstanding: int) -> None:
    _, words, front, _ = make_ends(start_index)
    for number in range(outstanding):
        front.push_request(request(number))
    for ahead in (outstanding + 1, 33, 2**31, 2**32 - 1):
        words[RSP_PROD] = lie = (start_index + ahead) % 2**32
        for look in (front.take_response, front.final_check):
            with pytest.raises(PeerViolation) as caught:
                look()
            assert (caught.value.requirement, caught.value.field) == ("SEC-F-1", "rsp_prod")
            assert (caught.value.value, caught.value.peer) == (lie, 0)
    assert front.free_requests == RING_SLOTS - outstanding


@pytest.mark.security("SEC-B-2", "SEC-F-2")
@pytest.mark.erratum("E-SLOT")
def test_what_was_taken_no_longer_changes() -> None:
    page, _, front, back = make_ends()
    front.push_request(request(1))
    taken = back.take_request()
    page[slot_offset(0) : slot_offset(1)] = request(0xEE)
    assert taken == request(1)
    back.push_response(response(2))
    answer = front.take_response()
    page[slot_offset(0) : slot_offset(1)] = request(0xEE)
    assert answer == response(2)


@pytest.mark.security("SEC-B-3", "SEC-F-5")
@pytest.mark.parametrize("start_index", EDGES)
def test_an_ends_own_words_are_never_believed(start_index: int) -> None:
    _, words, front, back = make_ends(start_index)
    front.push_request(request(1))
    words[REQ_PROD] = (start_index + 1) % 2**32
    words[RSP_PROD] = words[REQ_EVENT] = 0xDEADBEEF
    assert back.take_request() == request(1)
    back.push_response(response(2))
    assert words[RSP_PROD] == (start_index + 1) % 2**32
    words[REQ_PROD] = words[RSP_EVENT] = 0xDEADBEEF
    assert front.take_response() == response(2)
    front.push_request(request(3))
    assert words[REQ_PROD] == (start_index + 2) % 2**32


@pytest.mark.security("SEC-B-5")
def test_a_response_is_written_whole_and_nothing_else_is() -> None:
    page, _, front, back = make_ends()
    front.push_request(request(1))
    back.take_request()
    page[slot_offset(0) : slot_offset(2)] = b"\xcc" * 128
    back.push_response(response(2))
    assert bytes(page[slot_offset(0) : slot_offset(2)]) == response(2) + b"\xcc" * (128 - RESPONSE_SIZE_BYTES)
