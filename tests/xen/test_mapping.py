"""A mapping of a descriptor's pages; a file plays the device."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from refimpl.errors import Misuse
from refimpl.xen.mapping import Mapping

SIZE = 8192


@pytest.fixture
def descriptor() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.truncate(2 * SIZE)
        yield file.fileno()


def is_mapped(descriptor: int) -> bool:
    inode = str(os.fstat(descriptor).st_ino)
    return any(line.split()[4] == inode for line in Path("/proc/self/maps").read_text().splitlines())


def test_memory_is_the_files_and_of_plain_bytes(descriptor: int) -> None:
    mapping = Mapping(descriptor, 4096, SIZE, writable=True)
    assert (mapping.memory.format, mapping.memory.nbytes, mapping.memory.readonly) == ("B", SIZE, False)
    mapping.memory[0:4] = b"page"
    with mapping.memory.cast("I") as words:
        words[1] = 7
    assert os.pread(descriptor, 8, 4096) == b"page\7\0\0\0"
    mapping.close()
    assert not is_mapped(descriptor)


def test_a_map_for_reading_cannot_be_written(descriptor: int) -> None:
    mapping = Mapping(descriptor, 0, SIZE, writable=False)
    with pytest.raises(TypeError):
        mapping.memory[0] = 1
    mapping.close()


def test_no_descriptor_is_kept(descriptor: int) -> None:
    before = os.listdir("/proc/self/fd")
    mapping = Mapping(descriptor, 0, SIZE, writable=True)
    assert os.listdir("/proc/self/fd") == before
    mapping.close()


@pytest.mark.parametrize("take", [lambda memory: memory[2:4], memoryview, lambda memory: memory.cast("I")])
def test_close_while_a_view_is_held_is_misuse_and_changes_nothing(descriptor: int, take) -> None:
    mapping = Mapping(descriptor, 0, SIZE, writable=True)
    view = take(mapping.memory)
    with pytest.raises(Misuse):
        mapping.close()
    mapping.memory[0] = 9
    assert os.pread(descriptor, 1, 0) == b"\x09"
    view.release()
    mapping.close()
    mapping.close()
    assert not is_mapped(descriptor)


def test_an_array_over_the_memory_counts_as_a_view(descriptor: int) -> None:
    numpy = pytest.importorskip("numpy")
    mapping = Mapping(descriptor, 0, SIZE, writable=True)
    array = numpy.frombuffer(mapping.memory, dtype=numpy.uint32)
    with pytest.raises(Misuse):
        mapping.close()
    del array
    mapping.close()
    assert not is_mapped(descriptor)


def test_what_is_dropped_is_unmapped_with_its_last_view(descriptor: int) -> None:
    mapping = Mapping(descriptor, 0, SIZE, writable=True)
    view = mapping.memory[0:1]
    del mapping
    gc.collect()
    assert is_mapped(descriptor)
    view.release()
    assert not is_mapped(descriptor)


def test_a_forked_child_does_not_have_the_pages(descriptor: int) -> None:
    mapping = Mapping(descriptor, 0, SIZE, writable=True)
    child = os.fork()
    if child == 0:
        os._exit(1 if is_mapped(descriptor) else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    mapping.memory[0] = 1
    mapping.close()


def test_a_refused_map_is_an_os_error(descriptor: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        Mapping(descriptor, 1, SIZE, writable=True)
