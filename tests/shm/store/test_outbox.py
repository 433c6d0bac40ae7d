"""The queue to one client: bytes in order, whatever pieces the kernel takes; duplicates; who waits for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.shm.store.outbox import Outbox, Outstanding
from refimpl.shm.store.quotas import Quotas, Usage
from refimpl.store.wire import Operation, packet


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=100), st.lists(st.integers(1, 60)))
def test_all_bytes_leave_in_order(messages, takes):
    outbox = Outbox()
    for message in messages:
        outbox.add_reply(message, None)
    left = b""
    takes = iter(takes)
    while outbox:
        assert outbox.size == len(b"".join(messages)) - len(left)
        some = b"".join(outbox.first())[: next(takes, 7)]
        left += some
        outbox.sent(len(some))
    assert left == b"".join(messages)
    assert outbox.size == 0


def test_events_that_wait_are_not_queued_again():
    outbox = Outbox()
    for path, token in [(b"/a", b"t"), (b"/a", b"u"), (b"/a", b"t"), (b"/b", b"t")]:
        outbox.add_event(path, token, None)
    event = packet(Operation.WATCH_EVENT, b"/a\0t\0")
    assert b"".join(outbox.first()).count(event) == 1
    outbox.sent(len(event) - 1)
    outbox.add_event(b"/a", b"t", None)  # its last byte has not left, so the client looks later than now
    assert outbox.size == 1 + 2 * len(event)
    outbox.sent(1)
    outbox.add_event(b"/a", b"t", None)
    assert outbox.size == 3 * len(event)


def test_special_events_are_all_told():
    outbox = Outbox()
    for _ in range(2):
        outbox.add_event(b"@releaseDomain", b"t", None)
    assert len(outbox.first()) == 2


def test_the_age_is_that_of_the_oldest():
    outbox = Outbox()
    assert outbox.age == 0
    outbox.add_reply(b"first", None)
    first = outbox.age
    outbox.add_reply(b"second", None)
    outbox.sent(3)  # a client that takes a little now and then is no younger for it
    assert outbox.age >= first
    outbox.sent(8)
    assert outbox.age == 0


@pytest.fixture
def usage():
    return Usage(Quotas(), limited=True)


def test_a_request_is_outstanding_until_all_of_it_has_left(usage):
    reader, watcher = Outbox(), Outbox()
    request = Outstanding(usage)
    watcher.add_event(b"/a", b"t", request)
    reader.add_reply(b"reply", request)
    assert usage.outstanding == 1
    reader.sent(5)
    assert usage.outstanding == 1
    watcher.sent(watcher.size)
    assert usage.outstanding == 0


def test_what_is_given_up_is_outstanding_no_more(usage):
    outbox = Outbox()
    for _ in range(3):
        outbox.add_reply(b"reply", Outstanding(usage))
    outbox.sent(2)
    assert usage.outstanding == 3
    outbox.clear()
    assert usage.outstanding == 0
    assert not outbox
    assert outbox.size == 0
    outbox.add_reply(b"next", None)
    assert b"".join(outbox.first()) == b"next"
