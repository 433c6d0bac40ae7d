"""The fences themselves: the store buffer litmus between two real processes, and what a fence must never do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from refimpl import fence
from refimpl.fence import fences

ROUNDS = 300_000
#: What each process does: store the round's number into its own word, pass the fence, load the other's word.
PROCESS = """
import mmap, sys
from array import array
from refimpl.fence import fences

shared, found, mine, rounds, fenced = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
with open(shared, "r+b") as file:
    memory = mmap.mmap(file.fileno(), 4096)
words = memoryview(memory).cast("I")
own, other, ready = 16 * (1 + mine), 16 * (2 - mine), 64 + mine
full_fence = fences().full if fenced == "fenced" else None
seen = array("I", bytes(4 * (rounds + 1)))
words[ready] = 1
print("ready", flush=True)
sys.stdin.readline()
if full_fence is None:
    for number in range(1, rounds + 1):
        words[own] = number
        seen[number] = words[other]
else:
    for number in range(1, rounds + 1):
        words[own] = number
        full_fence()
        seen[number] = words[other]
with open(found, "wb") as file:
    seen.tofile(file)
"""


def run_litmus(folder: Path, fenced: str) -> tuple[array[int], array[int]]:
    """Let two processes race, freely, and return what each found in each round."""
    (folder / "shared").write_bytes(bytes(4096))
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROCESS,
                str(folder / "shared"),
                str(folder / f"found{mine}"),
                str(mine),
                str(ROUNDS),
                fenced,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for mine in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        assert [process.wait(60) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    found = array("I"), array("I")
    for mine in range(2):
        found[mine].frombytes((folder / f"found{mine}").read_bytes())
    return found


def reordered_rounds(found: tuple[array[int], array[int]]) -> int:
    """Count the rounds that no order of the accesses explains.

    Where the first, in its round ``r``, still found the second in round ``s - 1``, its load came before the second's
    store of ``s``; so its own store of ``r`` came before the second's load of round ``s``, which must have found it.
    """
    first, second = found
    return sum(first[r] < ROUNDS and second[first[r] + 1] < r for r in range(1, ROUNDS + 1))


def overlapping_rounds(found: tuple[array[int], array[int]]) -> int:
    """Count the rounds in which the processes really ran side by side: the other had moved since the round before."""
    return sum(found[0][r] not in (0, ROUNDS, found[0][r - 1]) for r in range(1, ROUNDS + 1))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor reorders nothing")
@pytest.mark.spec("WORKFLOW-4", "WORKFLOW-11")
def test_no_store_passes_a_load_behind_the_full_fence(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = run_litmus(tmp_path, "fenced")
    record_property("rounds side by side", overlapping_rounds(found))
    assert reordered_rounds(found) == 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor reorders nothing")
def test_what_happens_without_the_fence_is_reported(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Nothing is demanded of a processor: it may reorder, it need not."""
    found = run_litmus(tmp_path, "unfenced")
    side_by_side, reordered = overlapping_rounds(found), reordered_rounds(found)
    record_property("rounds side by side", side_by_side)
    record_property("rounds reordered", reordered)
    print(f"{reordered} of {side_by_side} rounds side by side were reordered")
    assert reordered <= ROUNDS


def test_the_count_of_reordered_rounds_sees_one() -> None:
    """A counter that never counts would pass any fence: feed it a run in which both loads passed their stores once."""
    first, second = array("I", range(ROUNDS + 1)), array("I", range(ROUNDS + 1))
    assert reordered_rounds((first, second)) == 0
    first[1000] = 999
    second[1000] = 999
    assert reordered_rounds((first, second)) == 1


def test_a_full_fence_never_blocks_and_leaves_nothing_behind() -> None:
    full = fences().full
    threads = [threading.Thread(target=lambda: [full() for _ in range(2000)], daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a fence blocked"


def test_fences_leave_no_name_and_start_no_process() -> None:
    code = (
        "import os; from refimpl.fence import fences; before = set(os.listdir('/dev/shm')); f = fences();"
        "f.full(); f.read(); f.write(); assert fences() is f;"
        "left = {n for n in set(os.listdir('/dev/shm')) - before if str(os.getpid()) in n};"
        "assert not left, left;"
        "children = open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read(); assert not children, children"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("total_store_order", [True, False])
def test_only_total_store_order_spares_read_and_write_fences(
    total_store_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "_TOTAL_STORE_ORDER", total_store_order)
    made = fences.__wrapped__()
    assert (made.read is made.full) == (made.write is made.full) == (not total_store_order)
    made.full()
    made.read()
    made.write()
