"""A backend's work, printed as it happens: each step with the section of the document it comes from."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from refimpl.backend import Decision, Observer
from refimpl.cli.line_writer import LineWriter
from refimpl.commands import steps
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.error_numbers import name_of
from refimpl.commands.expanding import command_name
from refimpl.commands.steps import Step
from refimpl.errors import CommandRefused, Misuse
from refimpl.xenstore.state_machine import XenbusState

STATE_MACHINE = "State Machine"
EXPANDING = "Expanding the protocol"

_WORDS: dict[type, Callable[[Any], str]] = {
    steps.ReserveId: lambda s: f"claim id {s.id:#x}",
    steps.OpenSocket: lambda s: f"make socket {s.id:#x}",
    steps.FindSocket: lambda s: f"look up socket {s.id:#x}",
    steps.FindSocketIfAny: lambda s: f"look up socket {s.id:#x}",
    steps.ConnectSocket: lambda s: f"connect it to {s.address}",
    steps.AcceptConnection: lambda s: f"wait for a connection, accept it as {s.id_new:#x}",
    steps.MapIndexesPage: lambda s: f"map the indexes page, ref {s.ref}",
    steps.MapDataRing: lambda _: "map the data ring's grants",
    steps.BindEventChannel: lambda s: f"bind event channel {s.evtchn}",
    steps.StartDataRing: lambda _: "let data flow",
    steps.BindSocket: lambda s: f"bind it to {s.address}",
    steps.ListenOnSocket: lambda s: f"listen, backlog {s.backlog}",
    steps.WaitForConnection: lambda _: "wait until a connection is queued",
    steps.AnswerPending: lambda _: "answer what waits on it",
    steps.DrainOutput: lambda _: "send what is in out",
    steps.CloseSocket: lambda _: "close the socket",
    steps.UnmapDataRing: lambda _: "unmap the data ring",
    steps.UnmapIndexesPage: lambda _: "unmap the indexes page",
    steps.UnbindEventChannel: lambda _: "unbind the event channel",
    steps.ForgetSocket: lambda s: f"forget socket {s.entry.id:#x}",
}


class Trace(Observer):
    """Prints what the backend does, a line an event, as text or as JSON; ``with_steps`` also each step of a command.

    ``put(line)`` takes each line, and must not wait: this is the backend's own thread.
    """

    def __init__(self, put: Callable[[str], None], *, as_json: bool, with_steps: bool) -> None:
        self._put = put
        self._as_json = as_json
        self._with_steps = with_steps
        self._began: dict[int, float] = {}
        self._decisions: dict[int, Decision] = {}

    def state_changed(self, guest: int, state: XenbusState) -> None:
        self._print(guest, STATE_MACHINE, f"backend goes to {state.name.title().replace('_', '')}", state=int(state))

    def request_taken(self, guest: int, request: Any) -> None:
        self._began[id(request)] = time.monotonic()
        if self._with_steps:
            self._print(guest, _section(request), f"takes {_call(request)}", **_fields(request))

    def decided(self, guest: int, request: Any, decision: Decision) -> None:
        self._decisions[id(request)] = decision
        if self._with_steps:
            self._print(guest, _section(request), f"policy: {decision.why}", **_fields(request))

    def step_begun(self, guest: int, request: Any, step: Step) -> None:
        if self._with_steps:
            self._print(guest, _section(request), _WORDS[type(step)](step), step=type(step).__name__)

    def response_put(self, guest: int, request: Any, ret: int, reason: str) -> None:
        seconds = time.monotonic() - self._began.pop(id(request), time.monotonic())
        result = "0" if ret == 0 else f"{name_of(ret)} ({reason})"
        what = f"answers {result}" if self._with_steps else f"{_call(request)} = {result} <{seconds:.6f}>"
        fields = {"ret": ret, "reason": reason, "seconds": seconds, **_fields(request)}
        decision = self._decisions.pop(id(request), None)
        if decision is not None:
            fields["policy"] = decision.why
            if decision.error_number is None and not self._with_steps:
                what += f" [{decision.why}]"
        self._print(guest, _section(request), what, **fields)

    def warned(self, guest: int, message: str) -> None:
        self._print(guest, "", f"warning: {message}", warning=message)

    def _print(self, guest: int, section: str, what: str, **fields: Any) -> None:
        now = time.time()
        if self._as_json:
            line = json.dumps(
                {
                    "who": "backend",
                    "guest": guest,
                    "section": section,
                    "what": what,
                    "at": time.monotonic(),
                    "time": now,
                }
                | fields
            )
        else:
            clock = time.strftime("%H:%M:%S", time.localtime(now))
            line = f"{clock}.{int(now % 1 * 1_000_000):06} guest {guest:<4} {section:<16} {what}"
        self._put(line)


@contextlib.contextmanager
def trace_lines(path: str | None, *, as_json: bool) -> Iterator[Callable[[str], None]]:
    """Give a ``put`` for :class:`Trace`, to a file or to standard output; a reader who is slow, or gone, stops nobody.

    Raises Misuse where there can be no such file.
    """

    def tell_dropped(count: int) -> str:
        said = f"{count} lines were dropped here: the trace's reader is too slow"
        return json.dumps({"who": "backend", "dropped": count, "what": said}) if as_json else f"... {said}"

    def tell_failure(error: OSError) -> None:
        print(f"refimpl: the trace ends here: {error.strerror}", file=sys.stderr)

    with contextlib.ExitStack() as stack:
        try:
            file = sys.stdout if path is None else stack.enter_context(open(path, "w", encoding="utf-8"))
        except OSError as error:
            raise Misuse(f"--trace-file {path}: {error.strerror}") from None
        file.flush()
        writer = LineWriter(file.fileno(), tell_dropped, tell_failure)
        try:
            yield writer.put
        finally:
            unread = writer.close()
            if unread:
                print(f"refimpl: nobody read the last {unread} lines of the trace", file=sys.stderr)


def _section(request: Any) -> str:
    name = command_name(request.cmd)
    return EXPANDING if name == "unknown" else name.capitalize()


def _fields(request: Any) -> dict[str, Any]:
    """Return the request's members for a program: the address decoded, the command by name."""
    fields = {name: getattr(request, name) for name in type(request).LAYOUT.value_names}
    fields["cmd"] = command_name(request.cmd)
    if "addr" in fields:
        fields["addr"] = _address(fields["addr"], fields["len"])
    return {"request": fields}


def _call(request: Any) -> str:
    """Return the request as a call: ``CONNECT(id=0x1, addr=1.2.3.4:80, ref=8, evtchn=3)``."""
    members = _fields(request)["request"]
    hidden = ("req_id", "cmd", "len", "flags")
    shown = (f"{n}={v:#x}" if n in ("id", "id_new") else f"{n}={v}" for n, v in members.items() if n not in hidden)
    return f"{members['cmd']}({', '.join(shown)})"


def _address(addr: bytes, length: int) -> str:
    try:
        return str(InternetAddress.from_request(addr, length))
    except CommandRefused:
        return f"{addr[:16].hex()} len {length}"
