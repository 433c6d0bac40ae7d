"""The bench as a user has it: what it prints, for people, for programs and as a picture; not what it measures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from refimpl.cli.bench.plot import plot
from refimpl.cli.bench.rounds import Result, run_rounds
from refimpl.cli.bench.subjects import Subject, subjects
from refimpl.cli.bench.workloads import HEADER, SOCKET_COUNTS, Case, Effort, cases, measure

KEYS = {
    "work",
    "subject",
    "direction",
    "message_bytes",
    "ring_order",
    "open_sockets",
    "median",
    "p99",
    "unit",
    "ratio_to_direct",
    "ratio_min",
    "ratio_max",
    "rounds",
    "placement",
}
TINY = Effort(stream_seconds=0.002, round_trips=20, connections=3, messages=8)


def bench(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refimpl", "bench", "--quick", "--rounds", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, **more)  # type: ignore[call-overload,no-any-return]


def result(subject: str, direction: str, message_bytes: int, ratio: float, ring_order: int | None = None) -> Result:
    return Result(
        "stream", subject, direction, message_bytes, ring_order, None, 100.0, None, "MB/s", ratio, ratio, ratio, 9
    )


def test_json_has_the_machine_and_a_result_for_each_subject_and_work() -> None:
    done = bench("--only", "rtt", "--only", "connect", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"processor", "cores", "system", "python", "load"} <= set(found["machine"])
    assert all(set(each) == KEYS for each in found["results"])
    compared = {(each["work"], each["subject"], each["ring_order"]) for each in found["results"]}
    assert {("rtt", "direct", None), ("rtt", "pvcalls", 9), ("connect", "pvcalls", 9)} <= compared
    assert all(each["rounds"] == 1 and each["median"] > 0 for each in found["results"])
    assert all((each["p99"] is not None) == (each["work"] == "rtt") for each in found["results"])
    assert {each["ratio_to_direct"] for each in found["results"] if each["subject"] == "direct"} == {1.0}
    placements = [each["placement"] for each in found["results"] if each["subject"] == "direct"]
    assert placements == ([None, "apart", "together", None] if len(os.sched_getaffinity(0)) > 1 else [None, None])


def test_an_idle_backend_is_measured_with_a_thousand_sockets() -> None:
    done = bench("--only", "idle", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["results"]
    assert all(set(each) == KEYS for each in found)
    assert [(each["work"], each["open_sockets"], each["unit"]) for each in found] == [
        ("idle", 1000, "KiB a socket"),
        ("idle", 1000, "% of a core"),
    ]
    assert 0 < found[0]["median"] < 32
    assert found[1]["median"] < 5  # The mark is 0.1, over ten seconds; here a tick of the clock is half of one percent.


def test_without_socat_the_rest_is_measured_and_its_package_named(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    done = bench("--only", "connect", env={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "Debian's package `socat` would add it" in done.stderr
    assert "PV Calls, order 9" in done.stdout and "TCP, direct" in done.stdout
    assert "socat" not in done.stdout


def test_a_picture_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    done = bench("--plot", str(tmp_path / "absent" / "streams.svg"))
    assert done.returncode == 2
    assert "--plot" in done.stderr and "absent" in done.stderr and "Traceback" not in done.stderr


def test_the_picture_is_well_formed_and_has_a_bar_a_figure() -> None:
    results = [
        result(subject, direction, size, 0.5, order)
        for subject, order in (("direct", None), ("pvcalls", 4), ("pvcalls", 9), ("socat", None))
        for direction in ("out", "in")
        for size in (64, 65536)
    ]
    drawn = ElementTree.fromstring(plot(results))
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    titles = [title.text for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 3 * 2 * 2
    assert "PV Calls, order 9: 0.50 (0.50-0.50)" in titles


def test_the_picture_of_nothing_is_a_picture() -> None:
    ElementTree.fromstring(plot([]))


def test_ratios_are_within_a_round_and_their_median_is_given() -> None:
    compared = [Subject("direct"), Subject("pvcalls", 9)]
    ticks: list[None] = []
    found = run_rounds(compared, [Case("rtt", message_bytes=1)], TINY, 2, lambda: ticks.append(None))
    assert len(ticks) == 4
    direct, pvcalls = found
    assert (direct.subject, direct.ratio_to_direct, pvcalls.subject, pvcalls.rounds) == ("direct", 1.0, "pvcalls", 2)
    assert pvcalls.ratio_min is not None and pvcalls.ratio_max is not None and pvcalls.ratio_to_direct is not None
    assert pvcalls.ratio_min <= pvcalls.ratio_to_direct <= pvcalls.ratio_max


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_the_ends_of_a_round_trip_are_kept_where_the_case_says() -> None:
    allowed = os.sched_getaffinity(0)
    seen: list[tuple[set[int], int]] = []

    class Echoing:
        def __enter__(self) -> Echoing:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def sendall(self, data: bytes) -> None:
            if len(data) == HEADER.size:
                seen.append((os.sched_getaffinity(0), HEADER.unpack(data)[2] - 1))

        def recv(self, _size: int) -> bytes:
            return b"x"

    for placement in ("apart", "together", None):
        measure(Case("rtt", message_bytes=1, placement=placement), Echoing, TINY)
    first, last = min(allowed), max(allowed)
    assert seen == [({first}, last), ({first}, first), (allowed, -1)]
    assert os.sched_getaffinity(0) == allowed


def test_a_measurement_that_fails_ends_the_bench() -> None:
    class Broken:
        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def sendall(self, _data: bytes) -> None:
            pass

        def recv_into(self, _buffer: memoryview) -> int:
            return 0

    case = next(case for case in cases(quick=True) if case.direction == "in")
    with pytest.raises(ConnectionError, match="ended early"):
        measure(case, Broken, TINY)


def test_relays_take_no_case_they_would_need_a_thousand_processes_for() -> None:
    all_cases = cases(quick=False)
    for subject in [Subject("socat"), Subject("socat-256k", None)]:
        taken = {case.open_sockets for case in all_cases if subject.takes(case) and case.work == "sockets"}
        assert taken == {1, 64}
    assert {case.open_sockets for case in all_cases if case.work == "sockets"} == set(SOCKET_COUNTS)


@pytest.mark.skipif(shutil.which("socat") is None, reason="needs Debian's package socat")
def test_socat_is_compared_where_it_is_installed() -> None:
    assert {subject.name for subject in subjects(quick=True)} == {"direct", "pvcalls", "socat", "socat-256k"}
