"""Segments: their layout, their making, and what is taken for one."""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import sys
from pathlib import Path

import posix_ipc
import pytest

from refimpl.errors import LimitReached, PlatformUnavailable
from refimpl.platform import PAGE_SIZE
from refimpl.shm import segments
from refimpl.shm.names import object_name


@pytest.fixture
def segment():
    writable, for_reading = segments.create_segment(object_name(secrets.token_hex(4), "1a"), 3 * PAGE_SIZE)
    yield writable, for_reading
    os.close(writable)
    os.close(for_reading)


def test_table_words_are_aligned_and_rows_begin_at_pages() -> None:
    for field, word in (("granted", 4), ("bound", 8), ("offered", 4), ("port_limit", 4), ("granters", 4)):
        assert segments.table_offset(field) % word == 0
    assert segments.table_offset("maps") % PAGE_SIZE == 0
    assert segments.LARGEST_ARENA % PAGE_SIZE == 0


def test_a_ref_and_a_word_have_room_for_all_they_say() -> None:
    assert segments.GENERATION_COUNT * segments.LARGEST_ARENA == 1 << 32
    assert segments.GENERATION_COUNT << 17 < 1 << 32
    assert segments.DOMID_COUNT << 2 < 1 << 17
    assert segments.PORT_COUNT <= 1 << 16


def test_segment_has_no_name_and_is_sparse(segment) -> None:
    writable, for_reading = segment
    assert os.readlink(f"/proc/self/fd/{writable}").endswith("(deleted)")
    assert os.fstat(writable).st_size == os.fstat(for_reading).st_size == 3 * PAGE_SIZE
    assert os.fstat(writable).st_blocks == 0
    assert not os.get_inheritable(writable)
    assert not os.get_inheritable(for_reading)


def test_descriptor_for_reading_cannot_write(segment) -> None:
    _, for_reading = segment
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(for_reading, b"x")
    with pytest.raises(OSError, match=r"Invalid argument|Bad file descriptor"):
        os.ftruncate(for_reading, 0)
    with pytest.raises(PermissionError):
        mmap.mmap(for_reading, PAGE_SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def test_name_that_is_taken_is_not_opened(names) -> None:
    name = object_name(secrets.token_hex(4), "1a")
    taken = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=PAGE_SIZE)
    try:
        with pytest.raises(posix_ipc.ExistentialError):
            segments.create_segment(name, PAGE_SIZE)
    finally:
        taken.close_fd()
        taken.unlink()


@pytest.mark.parametrize("failing", [1, 2])
def test_no_descriptor_left_is_a_limit_and_leaves_nothing(monkeypatch, names, failing) -> None:
    run = secrets.token_hex(4)
    real = posix_ipc.SharedMemory
    calls = []

    def open_or_fail(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == failing:
            raise OSError("This process already has the maximum number of files open")
        return real(*arguments, **options)

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(posix_ipc, "SharedMemory", open_or_fail)
    with pytest.raises(LimitReached, match="maximum number of files"):
        segments.create_segment(object_name(run, "1a"), PAGE_SIZE)
    assert len(os.listdir("/proc/self/fd")) <= before
    assert names(run) == []


def test_no_address_space_is_a_limit(segment) -> None:
    os.ftruncate(segment[0], 1 << 62)  # more than any processor can address
    with pytest.raises(LimitReached, match="address space"):
        segments.map_segment(segment[0], 1 << 62, writable=True)


def test_reserved_pages_are_backed(segment) -> None:
    segments.reserve(segment[0], PAGE_SIZE, PAGE_SIZE)
    assert os.fstat(segment[0]).st_blocks * 512 == PAGE_SIZE


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM])
def test_no_room_is_a_limit(monkeypatch, segment, number) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(LimitReached, match="/dev/shm is full"):
        segments.reserve(segment[0], 0, PAGE_SIZE)


def test_a_bug_is_no_limit() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        segments.reserve(-1, 0, PAGE_SIZE)


def test_only_shared_memory_of_the_size_is_a_segment(segment, tmp_path) -> None:
    assert segments.is_segment(segment[0], 3 * PAGE_SIZE)
    assert not segments.is_segment(segment[0], 2 * PAGE_SIZE)
    os.ftruncate(segment[0], PAGE_SIZE)
    assert not segments.is_segment(segment[0], 3 * PAGE_SIZE)
    assert not segments.is_segment(-1, 3 * PAGE_SIZE)
    reader, writer = os.pipe()
    assert not segments.is_segment(reader, 0)
    os.close(reader)
    os.close(writer)
    with open("/dev/zero", "rb") as device:
        assert not segments.is_segment(device.fileno(), 0)


@pytest.mark.parametrize(
    ("module", "attribute", "value", "words"),
    [
        (sys, "platform", "darwin", "needs Linux, and this is darwin"),
        (mmap, "PAGESIZE", 16384, "needs pages of 4096 bytes, not of 16384"),
        (sys, "maxsize", 2**31 - 1, "64-bit"),
        (segments, "SHM_DIRECTORY", Path("/dev/null"), "mount a tmpfs there"),
    ],
)
def test_another_machine_is_said_in_one_line(monkeypatch, module, attribute, value, words) -> None:
    monkeypatch.setattr(module, attribute, value)
    with pytest.raises(PlatformUnavailable, match=words) as raised:
        segments.check_machine()
    assert "\n" not in str(raised.value)


def test_this_machine_will_do() -> None:
    segments.check_machine()
