"""Layouts: what is declared, packed, unpacked, drawn and dumped."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.layout import Layout, Structure

EXAMPLE = Layout("example", ("req_id", "I"), ("pad", "4x"), ("id", "Q"), ("ret", "i"), ("addr", "4s"), total_size=32)
ARRAY = Layout("list", ("count", "I"), ("ref", "3I"), ("tail", "2H"))


@dataclass(frozen=True, slots=True)
class Example(Structure):
    LAYOUT: ClassVar[Layout] = EXAMPLE

    req_id: int
    id: int
    ret: int
    addr: bytes


def test_members_stand_one_after_the_other() -> None:
    assert [(f.name, f.offset, f.size) for f in EXAMPLE.fields] == [
        ("req_id", 0, 4),
        ("pad", 4, 4),
        ("id", 8, 8),
        ("ret", 16, 4),
        ("addr", 20, 4),
    ]
    assert (EXAMPLE.size, EXAMPLE.offset_of("id"), ARRAY.size) == (32, 8, 20)
    assert EXAMPLE.value_names == ("req_id", "id", "ret", "addr")


@pytest.mark.erratum("E-ENDIAN")
def test_integers_are_little_endian_and_padding_is_zero() -> None:
    packed = EXAMPLE.pack(0x01020304, 5, -107, b"abcd")
    assert packed == bytes.fromhex("04030201 00000000 0500000000000000 95ffffff 61626364") + bytes(8)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(-(2**31), 2**31 - 1), st.binary(max_size=4))
def test_what_was_packed_is_unpacked(req_id: int, id: int, ret: int, addr: bytes) -> None:
    example = Example(req_id, id, ret, addr.ljust(4, b"\0"))
    assert Example.from_bytes(example.to_bytes()) == example
    assert Example.from_bytes(b"" + example.to_bytes() + b"more") == example


def test_padding_is_ignored_when_read() -> None:
    assert Example.from_bytes(b"\xff" * 32) == Example(2**32 - 1, 2**64 - 1, -1, b"\xff" * 4)


@pytest.mark.parametrize(
    "values", [(2**32, 0, 0, b""), (-1, 0, 0, b""), (0, 2**64, 0, b""), (0, 0, 2**31, b""), (0, 0, 0, 7)]
)
def test_a_value_out_of_range_is_refused(values: tuple[int, int, int, bytes]) -> None:
    with pytest.raises(struct.error):
        Example(*values).to_bytes()


def test_too_few_bytes_are_refused() -> None:
    with pytest.raises(struct.error):
        Example.from_bytes(bytes(31))


def test_an_array_is_unpacked_as_its_bytes() -> None:
    packed = ARRAY.pack(3, bytes(range(12)), b"abcd")
    assert ARRAY.unpack(packed) == (3, bytes(range(12)), b"abcd")
    assert [f.c_type for f in ARRAY.fields] == ["uint32_t", "uint32_t[3]", "uint16_t[2]"]
    assert [f.is_array for f in ARRAY.fields] == [False, True, True]


@pytest.mark.parametrize(
    "members",
    [
        [("a", "H"), ("b", "I")],
        [("a", "I"), ("b", "Q")],
        [("a", "I"), ("b", "2Q")],
        [("a", "3s"), ("b", "H")],
    ],
)
def test_members_must_stand_where_a_c_compiler_puts_them(members: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match=r"bad\.b: offset . is not a multiple"):
        Layout("bad", *members)


def test_members_must_fit_the_size() -> None:
    with pytest.raises(ValueError, match="members end at 8, past 7"):
        Layout("bad", ("a", "Q"), total_size=7)


def test_the_diagram_draws_every_member() -> None:
    assert EXAMPLE.diagram() == "\n".join(
        [
            "example, 32 bytes",
            "offset  size  type         name",
            "     0     4  uint32_t     req_id",
            "     4     4  uint8_t[4]   pad",
            "     8     8  uint64_t     id",
            "    16     4  int32_t      ret",
            "    20     4  uint8_t[4]   addr",
            "    24     8               (padding)",
        ]
    )


def test_the_dump_is_one_line_and_never_fails() -> None:
    packed = EXAMPLE.pack(1, 2, -3, b"abcd")
    assert EXAMPLE.dump(packed) == "example req_id=1 id=2 ret=-3 addr=61626364"
    assert EXAMPLE.dump(packed[:5]) == "example (5 of 32 bytes) 0100000000"
    assert EXAMPLE.dump(b"") == "example (0 of 32 bytes) "
