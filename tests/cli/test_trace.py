"""The trace: every call with guest, socket id, arguments, result and time."""

from __future__ import annotations

import json
import os
import re

import pytest

from refimpl.backend import Decision
from refimpl.cli.trace import Trace, trace_lines
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.connect import ConnectRequest
from refimpl.commands.error_numbers import ErrorNumber
from refimpl.errors import Misuse

REQUEST = ConnectRequest.make(3, 0x2A, InternetAddress("192.0.2.1", 80), 8, 2)


def traced(*, as_json: bool, ret: int, reason: str = "", decision: Decision | None = None) -> str:
    lines: list[str] = []
    trace = Trace(lines.append, as_json=as_json, with_steps=False)
    trace.request_taken(7, REQUEST)
    if decision is not None:
        trace.decided(7, REQUEST, decision)
    trace.response_put(7, REQUEST, ret, reason)
    (line,) = lines
    return line


def test_a_call_is_one_line_as_strace_has_it() -> None:
    line = traced(as_json=False, ret=ErrorNumber.ECONNREFUSED, reason="nobody listens")
    call = r"CONNECT\(id=0x2a, addr=192\.0\.2\.1:80, ref=8, evtchn=2\) = ECONNREFUSED \(nobody listens\)"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{6}} guest 7 +Connect +{call} <\d+\.\d{{6}}>", line)


def test_as_json_it_is_one_object() -> None:
    event = json.loads(traced(as_json=True, ret=0))
    request = {"req_id": 3, "cmd": "CONNECT", "id": 0x2A, "addr": "192.0.2.1:80", "ref": 8, "evtchn": 2}
    assert event["request"].items() >= request.items()
    assert (event["guest"], event["ret"], event["reason"]) == (7, 0, "")
    assert event["seconds"] >= 0
    assert event["time"] > 0


def test_a_call_sent_elsewhere_says_where_and_by_which_rule() -> None:
    decision = Decision("connect 192.0.2.1:80: rule 'x' makes it 10.0.0.1:80", address=InternetAddress("10.0.0.1", 80))
    assert traced(as_json=False, ret=0, decision=decision).endswith("> [" + decision.why + "]")
    assert json.loads(traced(as_json=True, ret=0, decision=decision))["policy"] == decision.why


def test_a_trace_file_that_cannot_be_is_said(tmp_path) -> None:
    path = str(tmp_path / "no" / "such")
    with (
        pytest.raises(Misuse, match=f"--trace-file {path}: No such file or directory"),
        trace_lines(path, as_json=False),
    ):
        pass


def test_output_that_fails_ends_the_trace_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with trace_lines("/dev/full", as_json=False) as put:
        put("one")
        put("two")
    assert capsys.readouterr().err == "refimpl: the trace ends here: No space left on device\n"


def test_a_reader_who_reads_nothing_is_told_of_at_the_end(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("refimpl.cli.line_writer.CLOSING_SECONDS", 0.05)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with trace_lines(str(path), as_json=False) as put:
        for _ in range(3):
            put("x" * 100_000)
    os.close(reader)
    assert re.fullmatch(r"refimpl: nobody read the last [123] lines of the trace\n", capsys.readouterr().err)


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_dropped_is_told_where_it_was(tmp_path, monkeypatch, as_json: bool) -> None:
    monkeypatch.setattr("refimpl.cli.line_writer.MOST_LINES", 10)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    lines = [json.dumps({"line": number, "fill": "x" * 50_000}) for number in range(100)]
    with trace_lines(str(path), as_json=as_json) as put, os.fdopen(reader, "rb") as reading:
        for line in lines:
            put(line)
        os.set_blocking(reader, True)
        came: list[str] = []
        while sum(map(_count, came)) < 100:
            came.append(reading.readline().decode().rstrip())
        put("one more")
        assert reading.readline() == b"one more\n"
    assert 0 < sum(1 for line in came if _count(line) == 1) < 100
    assert [line for line in came if line in lines] == sorted((set(came) & set(lines)), key=lines.index)


def _count(line: str) -> int:
    """How many lines a line stands for."""
    dropped = re.search(r"(\d+) lines were dropped here", line)
    return int(dropped[1]) if dropped else 1
