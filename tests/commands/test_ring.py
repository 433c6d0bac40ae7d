"""The commands ring against ring.h's own macros and against a plain queue. Peers that lie: tests/hostile."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from refimpl.commands.ring import (
    RING_PAGE,
    RING_SLOTS,
    SLOT_SIZE_BYTES,
    BackRing,
    FrontRing,
    must_notify,
    slot_offset,
)
from refimpl.errors import Misuse
from refimpl.fence import fences
from refimpl.platform import PAGE_SIZE
from refimpl.testing.ring_ends import EDGES, RSP_PROD, make_ends, request, response, take_all

INDEX = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**32 - 1))


# ------------------------------------------------------------------------------------------- against the C header


@pytest.mark.spec("RING-1", "FNODE-5")
@pytest.mark.erratum("E-RSPSIZE")
def test_page_is_laid_out_as_the_c_compiler_does(c_values: Callable[[list[str]], list[int]]) -> None:
    page = "struct xen_pvcalls_sring"
    names = ["req_prod", "req_event", "rsp_prod", "rsp_event", "pvt", "ring"]
    found = c_values([f"offsetof({page}, {name})" for name in names])
    assert found == [RING_PAGE.offset_of(name) for name in names] == [0, 4, 8, 12, 16, 64]
    size, slots, pad = c_values(
        [f"sizeof((({page} *)0)->ring[0])", f"__RING_SIZE(({page} *)0, 4096)", f"offsetof({page}, __pad)"]
    )
    assert (size, slots, pad) == (SLOT_SIZE_BYTES, RING_SLOTS, RING_PAGE.offset_of("pad"))
    assert RING_PAGE.size == PAGE_SIZE
    assert RING_PAGE.fields[-1].size == size * slots
    assert [slot_offset(index) for index in (0, 31, 32, 2**32 - 1)] == [64, 64 + 31 * 64, 64, 64 + 31 * 64]


C_RING = r"""
static union { struct xen_pvcalls_sring sring; unsigned char bytes[4096]; } page;

int main(void) {
    xen_pvcalls_front_ring_t front; xen_pvcalls_back_ring_t back;
    unsigned start, value; char operation; int answer, i;
    memset(&page, 0, sizeof page);
    SHARED_RING_INIT(&page.sring);
    if (scanf("%u", &start) != 1) return 2;
    page.sring.req_prod = page.sring.rsp_prod = start;
    page.sring.req_event = page.sring.rsp_event = start + 1;
    FRONT_RING_ATTACH(&front, &page.sring, start, 4096);
    BACK_RING_ATTACH(&back, &page.sring, start, 4096);
    while (scanf(" %c %u", &operation, &value) == 2) {
        answer = -1;
        switch (operation) {
        case 'p':
            memset(RING_GET_REQUEST(&front, front.req_prod_pvt), value, sizeof(struct xen_pvcalls_request));
            front.req_prod_pvt++;
            RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front, answer);
            break;
        case 'q':
            memset(RING_GET_RESPONSE(&back, back.rsp_prod_pvt), value, sizeof(struct xen_pvcalls_response));
            back.rsp_prod_pvt++;
            RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&back, answer);
            break;
        case 't':
            if (RING_HAS_UNCONSUMED_REQUESTS(&back))
                answer = RING_GET_REQUEST(&back, back.req_cons++)->req_id & 0xff;
            break;
        case 'r':
            if (RING_HAS_UNCONSUMED_RESPONSES(&front))
                answer = RING_GET_RESPONSE(&front, front.rsp_cons++)->req_id & 0xff;
            break;
        case 'f': RING_FINAL_CHECK_FOR_RESPONSES(&front, answer); answer = !!answer; break;
        case 'b': RING_FINAL_CHECK_FOR_REQUESTS(&back, answer); answer = !!answer; break;
        }
        printf("%d\n", answer);
    }
    for (i = 0; i < 4096; i++) printf("%02x", page.bytes[i]);
    return 0;
}
"""


class Script:
    """Operations on both ends, in one letter each, done with the Python ends; invalid ones are left out."""

    def __init__(self, start_index: int) -> None:
        self.ends = make_ends(start_index)
        self.lines = [str(start_index)]
        self.answers: list[int] = []

    def do(self, operation: str, value: int) -> None:
        _, _, front, back = self.ends
        if (operation == "p" and not front.free_requests) or (operation == "q" and not back.owed):
            return
        answer = {
            "p": lambda: front.push_request(request(value)),
            "q": lambda: back.push_response(response(value)),
            "t": lambda: (back.take_request() or [-1])[0],
            "r": lambda: (front.take_response() or [-1])[0],
            "f": front.final_check,
            "b": back.final_check,
        }[operation]()
        self.lines.append(f"{operation} {value}")
        self.answers.append(int(answer))


@pytest.fixture(scope="module")
def c_ring(c_program: Callable[[str], Callable[[str], str]]) -> Callable[[str], str]:
    return c_program(C_RING)


@pytest.mark.spec("RING-1", "RING-12", "RING-13", "RING-18")
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(INDEX, st.lists(st.tuples(st.sampled_from("pppqqttrrfb"), st.integers(0, 255)), max_size=200))
@example(2**32 - 1, [("p", 1), ("b", 0), ("p", 2), ("t", 0), ("q", 3), ("f", 0), ("r", 0), ("b", 0), ("f", 0)])
@example(0, [("p", n) for n in range(40)] + [("t", 0), ("q", 9), ("r", 0), ("p", 5)] * 40)
def test_every_operation_does_what_the_c_macros_do(
    c_ring: Callable[[str], str], start_index: int, operations: list[tuple[str, int]]
) -> None:
    script = Script(start_index)
    for operation, value in operations:
        script.do(operation, value)
    *answers, page = c_ring("\n".join(script.lines)).split("\n")
    assert [int(answer) for answer in answers] == script.answers
    assert bytes.fromhex(page) == bytes(script.ends.page)


@pytest.mark.spec("RING-1")
@pytest.mark.security("SEC-F-8")
def test_initialised_page_is_the_golden_one(c_ring: Callable[[str], str]) -> None:
    page = bytes(make_ends().page)
    assert page == bytes.fromhex("00000000 01000000 00000000 01000000").ljust(PAGE_SIZE, b"\0")
    assert page.hex() == c_ring("0")


@pytest.mark.spec("RING-1")
def test_indexes_start_at_0_unless_told_otherwise() -> None:
    page = memoryview(bytearray(b"\xa5" * PAGE_SIZE))
    front, back = FrontRing(page, fences()), BackRing(page, fences())
    front.initialise()
    assert list(page.cast("I")[:4]) == [0, 1, 0, 1]
    assert front.push_request(request(1)) is True
    assert back.take_request() == request(1)
    assert back.push_response(response(2)) is True
    assert front.take_response() == response(2)
    assert list(page.cast("I")[:4]) == [1, 1, 1, 1]


# --------------------------------------------------------------------------------------------- against a plain queue


@pytest.mark.spec("RING-1", "RING-13")
@pytest.mark.security("SEC-B-4")
@given(INDEX, st.lists(st.sampled_from("pqtr"), max_size=300))
def test_ring_carries_what_two_queues_carry(start_index: int, operations: list[str]) -> None:
    _, _, front, back = make_ends(start_index)
    requests: deque[bytes] = deque()
    responses: deque[bytes] = deque()
    taken = pending = 0
    for number, operation in enumerate(operations):
        if operation == "p" and pending < RING_SLOTS:
            front.push_request(request(number))
            requests.append(request(number))
            pending += 1
        elif operation == "t":
            assert back.take_request() == (requests.popleft() if requests else None)
            taken = pending - len(requests) - len(responses)
        elif operation == "q" and back.owed:
            back.push_response(response(number))
            responses.append(response(number))
            taken -= 1
        elif operation == "r":
            expected = responses.popleft() if responses else None
            assert front.take_response() == expected
            pending -= expected is not None
        assert back.owed == taken <= RING_SLOTS
        assert front.free_requests == RING_SLOTS - pending


@pytest.mark.spec("RING-12", "RING-18")
@given(INDEX, st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_notification_is_due_when_the_event_lies_among_the_new_messages(old: int, count: int, event: int) -> None:
    new = (old + count) % 2**32
    reached = [(old + n + 1) % 2**32 for n in range(count)]
    assert must_notify(new, old, event) == (event in reached)
    for event_near in reached[:1] + reached[-1:]:
        assert must_notify(new, old, event_near)


@pytest.mark.spec("RING-12", "RING-18")
@pytest.mark.parametrize("start_index", EDGES)
def test_one_notification_wakes_a_sleeper_and_none_follows_while_it_works(start_index: int) -> None:
    _, _, front, back = make_ends(start_index)
    assert [front.push_request(request(n)) for n in range(4)] == [True, False, False, False]
    assert len(take_all(back)) == 4
    assert front.push_request(request(4)) is False, "the backend has not said that it sleeps"
    assert back.final_check() is True, "there is a request: it must not sleep"
    assert len(take_all(back)) == 1
    assert back.final_check() is False
    assert front.push_request(request(5)) is True
    assert [back.push_response(response(n)) for n in range(3)] == [True, False, False]
    assert [front.take_response() for _ in range(4)] == [response(0), response(1), response(2), None]
    assert front.final_check() is False
    assert back.push_response(response(3)) is True
    assert front.final_check() is True


# ---------------------------------------------------------------------------------------------------- own callers


@pytest.mark.spec("RING-1")
def test_backend_never_initialises_the_page() -> None:
    page = memoryview(bytearray(b"\x5a" * PAGE_SIZE))
    BackRing(page, fences()).release()
    assert bytes(page) == b"\x5a" * PAGE_SIZE


@pytest.mark.erratum("E-INFLIGHT")
def test_a_full_ring_takes_no_more_requests_until_a_response_is_taken() -> None:
    _, _, front, back = make_ends()
    for number in range(RING_SLOTS):
        front.push_request(request(number))
    with pytest.raises(Misuse, match="32 slots"):
        front.push_request(request(0))
    take_all(back)
    back.push_response(response(0))
    with pytest.raises(Misuse):
        front.push_request(request(0))
    front.take_response()
    front.push_request(request(0))
    assert front.free_requests == 0


@pytest.mark.security("SEC-B-4")
def test_no_response_without_a_request() -> None:
    _, words, front, back = make_ends()
    with pytest.raises(Misuse, match="one response"):
        back.push_response(response(0))
    front.push_request(request(1))
    with pytest.raises(Misuse):
        back.push_response(response(0))
    back.take_request()
    back.push_response(response(0))
    with pytest.raises(Misuse):
        back.push_response(response(0))
    assert words[RSP_PROD] == 1


@pytest.mark.spec("RING-5", "RING-14")
@pytest.mark.security("SEC-B-5")
@pytest.mark.parametrize("wrong", [0, 23, 25, 63, 65, PAGE_SIZE])
def test_messages_have_their_size(wrong: int) -> None:
    page, _, front, back = make_ends()
    front.push_request(request(1))
    back.take_request()
    before = bytes(page)
    with pytest.raises(Misuse, match=str(wrong)):
        front.push_request(bytes(wrong))
    with pytest.raises(Misuse, match=str(wrong)):
        back.push_response(bytes(wrong))
    assert bytes(page) == before


@pytest.mark.spec("FNODE-5")
@pytest.mark.parametrize("size", [0, 64, PAGE_SIZE - 1, 2 * PAGE_SIZE])
def test_the_ring_is_one_page(size: int) -> None:
    for end in (FrontRing, BackRing):
        with pytest.raises(Misuse, match="one page"):
            end(memoryview(bytearray(size)), fences())


def test_released_ends_hold_nothing_of_the_page() -> None:
    memory = mmap.mmap(-1, PAGE_SIZE)
    with memoryview(memory) as page:
        front, back = FrontRing(page, fences()), BackRing(page, fences())
        front.initialise()
        front.push_request(request(1))
        assert back.take_request() == request(1)
        for _ in range(2):
            front.release()
            back.release()
    memory.close()
    with pytest.raises(ValueError, match="released"):
        front.push_request(request(2))
