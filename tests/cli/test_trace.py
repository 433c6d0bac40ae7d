"""The trace: every call with guest, socket id, arguments, result and time."""

from __future__ import annotations

import io
import json
import re

import pytest

from refimpl.backend import Decision
from refimpl.cli.trace import Trace
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.connect import ConnectRequest
from refimpl.commands.error_numbers import ErrorNumber

REQUEST = ConnectRequest.make(3, 0x2A, InternetAddress("192.0.2.1", 80), 8, 2)


def traced(*, as_json: bool, ret: int, reason: str = "", decision: Decision | None = None) -> str:
    output = io.StringIO()
    trace = Trace(output, as_json=as_json, with_steps=False)
    trace.request_taken(7, REQUEST)
    if decision is not None:
        trace.decided(7, REQUEST, decision)
    trace.response_put(7, REQUEST, ret, reason)
    return output.getvalue()


def test_a_call_is_one_line_as_strace_has_it() -> None:
    line = traced(as_json=False, ret=ErrorNumber.ECONNREFUSED, reason="nobody listens")
    call = r"CONNECT\(id=0x2a, addr=192\.0\.2\.1:80, ref=8, evtchn=2\) = ECONNREFUSED \(nobody listens\)"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{6}} guest 7 +Connect +{call} <\d+\.\d{{6}}>\n", line)


def test_as_json_it_is_one_object() -> None:
    event = json.loads(traced(as_json=True, ret=0))
    request = {"req_id": 3, "cmd": "CONNECT", "id": 0x2A, "addr": "192.0.2.1:80", "ref": 8, "evtchn": 2}
    assert event["request"].items() >= request.items()
    assert (event["guest"], event["ret"], event["reason"]) == (7, 0, "")
    assert event["seconds"] >= 0
    assert event["time"] > 0


def test_a_call_sent_elsewhere_says_where_and_by_which_rule() -> None:
    decision = Decision("connect 192.0.2.1:80: rule 'x' makes it 10.0.0.1:80", address=InternetAddress("10.0.0.1", 80))
    assert traced(as_json=False, ret=0, decision=decision).endswith("> [" + decision.why + "]\n")
    assert json.loads(traced(as_json=True, ret=0, decision=decision))["policy"] == decision.why


def test_output_that_fails_ends_the_trace_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    trace = Trace(Full(), as_json=False, with_steps=False)
    trace.warned(1, "one")
    trace.warned(1, "two")
    assert capsys.readouterr().err == "refimpl: the trace ends here: No space left on device\n"
