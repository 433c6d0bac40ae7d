"""Waiting for descriptors, however high their numbers."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from refimpl.ready import is_readable, is_writable, readable

ABOVE_SELECT = 1024


@pytest.fixture(params=[0, ABOVE_SELECT])
def pipe(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    low = os.pipe()
    ends = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, request.param) for end in low)
    for end in low:
        os.close(end)
    yield ends[0], ends[1]
    for end in ends:
        os.close(end)


def test_it_is_readable_once_something_is_there(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    assert not is_readable(reading, 0)
    assert not is_readable(reading, -1)
    assert not is_readable(reading, 0.001)
    os.write(writing, b"x")
    assert is_readable(reading, 0)
    assert is_readable(reading)


def test_it_is_writable_until_it_is_full(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    assert is_writable(writing)
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, bytes(65536))
    assert not is_writable(writing, 0)


def test_of_several_those_that_are_readable(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    other, other_writing = os.pipe()
    try:
        assert readable([reading, other], 0) == []
        os.write(writing, b"x")
        assert readable([reading, other]) == [reading]
        os.write(other_writing, b"x")
        assert sorted(readable([reading, other])) == sorted([reading, other])
    finally:
        os.close(other)
        os.close(other_writing)
