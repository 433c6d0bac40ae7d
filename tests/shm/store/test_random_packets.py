"""Whatever bytes one client sends, in whatever pieces: the server goes on, and the others get their answers."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.store.wire import HEADER, PAYLOAD_MAX, Operation, packet, strings

words = st.one_of(
    st.sampled_from(
        [b"", b"/", b"/t", b"/t/a", b"t/a", b"/local/domain/1/a", b"@releaseDomain", b"T", b"F", b"1", b"n1", b"b0"]
    ),
    st.binary(max_size=12),
)
payloads = st.one_of(
    st.lists(words, max_size=5).map(lambda some: b"\0".join(some)),
    st.lists(words, max_size=5).map(lambda some: strings(*some)),
    st.integers(0, PAYLOAD_MAX).map(lambda size: b"/t\0" + b"v" * (size - 3)),
    st.integers(1, PAYLOAD_MAX // 2).map(lambda size: (b"/a" * size)[: PAYLOAD_MAX - 1] + b"\0"),
)
operations = st.one_of(st.sampled_from(list(Operation)), st.integers(0, 2**32 - 1))
numbers = st.one_of(st.integers(0, 4), st.integers(0, 2**32 - 1))
well_formed = st.builds(packet, operations, payloads, numbers, numbers)
headers = st.builds(HEADER.pack, operations, numbers, numbers, st.one_of(st.integers(0, 30), st.integers(0, 2**32 - 1)))
streams = st.lists(st.one_of(well_formed, well_formed, well_formed, st.binary(max_size=40), headers), max_size=30)


@pytest.fixture(scope="module")
def servers(start):
    """Return a running server that all examples ask, so that what one leaves behind meets the next."""
    with tempfile.TemporaryDirectory(prefix="xs") as folder, start(Path(folder)) as server:
        yield server


@settings(deadline=None)
@given(pieces=streams, cut=st.integers(1, 5000), domid=st.sampled_from([0, 1]))
def test_any_bytes(servers, pieces, cut, domid):
    data = b"".join(pieces)
    with servers.connect() as witness, contextlib.closing(servers.connect(domid).stream) as stream:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for at in range(0, len(data), cut):
                stream.sendall(data[at : at + cut])
        assert witness.request(Operation.READ, b"/tool\0").payload == b""


@settings(deadline=None)
@given(requests=st.lists(st.tuples(operations, payloads, numbers), max_size=40), domid=st.sampled_from([0, 1]))
def test_every_request_has_one_answer(new_database, speak, requests, domid):
    client = speak(new_database(), domid)
    for operation, payload, tx_id in requests:
        reply = client.request(operation, payload, tx_id)
        assert reply.type in (operation, Operation.ERROR)
        assert reply.tx_id == tx_id
        assert reply.error != "EIO"  # a fault of ours
        assert len(reply.payload) <= PAYLOAD_MAX
    client.events.clear()
    with pytest.raises(TimeoutError):
        while client.receive().type == Operation.WATCH_EVENT:
            pass
