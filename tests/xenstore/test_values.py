"""Numbers in nodes: decimal and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import PeerViolation
from refimpl.xenstore.values import parse_uint32


@given(st.integers(0, 2**32 - 1), st.sampled_from([b"", b"\0"]))
def test_a_decimal_number_is_read(value: int, end: bytes) -> None:
    assert parse_uint32("X", "f", str(value).encode() + end) == value


@pytest.mark.security("SEC-B-17")
@pytest.mark.parametrize(
    "raw",
    [None, b"", b"\0", b"1_0", b" 7", b"7 ", b"+7", b"-7", b"0x7", b"9" * 4000, b"7\0\0", b"7\0" + b"1",
     "٧".encode(), b"\xff", b"4294967296", b"7\n", b"1.0"],
)  # fmt: skip
def test_anything_else_is_the_peers_violation(raw: bytes | None) -> None:
    with pytest.raises(PeerViolation) as violation:
        parse_uint32("FNODE-3", "port", raw, peer=5)
    assert (violation.value.requirement, violation.value.field, violation.value.peer) == ("FNODE-3", "port", 5)
    assert len(str(violation.value)) < 300


@given(st.binary(max_size=20))
def test_no_bytes_escape_as_another_error(raw: bytes) -> None:
    try:
        assert 0 <= parse_uint32("X", "f", raw) < 2**32
    except PeerViolation:
        pass
