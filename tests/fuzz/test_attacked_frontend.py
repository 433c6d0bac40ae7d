"""A frontend and a backend that takes any steps in any order; hypothesis makes them shorter.

What holds, whatever the backend does: each call of the program ends, with a result or an error that callers know; what
was granted is granted no more afterwards, or set aside while the backend maps it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from refimpl.errors import RefimplError
from refimpl.frontend import Frontend, wait_readable
from refimpl.testing import HostileBackend, raw
from refimpl.testing.attack import NODES

from .grounds import NUMBER, PATIENCE, SETTINGS, Grounds, await_equal

RING = st.integers(0, 7)
RET = st.sampled_from((0, 0, 0, 0, -11, -104, -4095, -4096, 5, -(2**31), 2**31 - 1))
FIELD = st.sampled_from((None, None, None, "req_id", "cmd", "id", "pad"))
#: Of the program's calls; the backend may never answer.
SECONDS = 0.2


class Doing:
    """A call of the program in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._strange: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except (OSError, RefimplError):
            pass
        except BaseException as error:
            self._strange = error

    def end(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "a call that does not end"
        if self._strange is not None:
            raise self._strange


class AttackedFrontend(RuleBasedStateMachine):
    """The program's calls and the backend's steps."""

    def __init__(self, grounds: Grounds) -> None:
        super().__init__()
        self._grounds = grounds
        self._platform = grounds.new_guest()
        self._free = self._platform._domain.arena.free_page_count
        self._end = HostileBackend(grounds.zero, self._platform.domid, patience=PATIENCE)
        self._end.publish()
        self._frontend: Any = None
        opening = threading.Thread(target=self._open)
        opening.start()
        self._end.connect()
        opening.join()
        self._sockets: list[Any] = []
        self._doing: list[Doing] = []
        self._asked: list[raw.RawRequest] = []

    def _open(self) -> None:
        self._frontend = Frontend.open(self._platform, ring_order=1, timeout=SECONDS, arrival_timeout=0.0)

    def teardown(self) -> None:
        try:
            for doing in self._doing:
                doing.end()
            for each in self._sockets:
                with suppress(OSError, RefimplError):
                    each.close()
            with suppress(OSError, RefimplError):
                self._frontend.close(0)
            self._end.close()  # It maps nothing any more: what was set aside comes back.
            await_equal(0, self._pages_kept)
        finally:
            self._grounds.end_guest(self._platform)

    def _pages_kept(self) -> int:
        with suppress(RefimplError):
            self._platform.grant(0, 1).end()  # What was set aside is looked at now.
        return self._free - self._platform._domain.arena.free_page_count

    def _do(self, call: Callable[[], Any]) -> None:
        self._doing.append(Doing(call))

    def _socket(self, number: int) -> Any:
        return self._sockets[number % len(self._sockets)] if self._sockets else None

    @rule()
    def new_socket(self) -> None:
        self._do(lambda: self._sockets.append(self._frontend.socket()))
        with suppress(AssertionError, RefimplError):
            self.answer(0, 0, None, 0)

    @rule(which=RING, call=st.sampled_from(("connect", "send", "recv", "bind", "listen", "accept", "poll", "close")))
    def use(self, which: int, call: str) -> None:
        each = self._socket(which)
        if each is None:
            return
        with suppress(OSError, RefimplError):
            each.settimeout(SECONDS)
        calls: dict[str, Callable[[], Any]] = {
            "connect": lambda: each.connect(("192.0.2.1", 80)),
            "send": lambda: each.send(b"x" * 9000),
            "recv": lambda: each.recv(5000),
            "bind": lambda: each.bind(("0.0.0.0", 8080)),
            "listen": each.listen,
            "accept": lambda: self._sockets.append(each.accept()[0]),
            "poll": lambda: wait_readable([each], SECONDS),
            "close": each.close,
        }
        self._do(calls[call])

    def _take(self) -> None:
        with suppress(AssertionError):  # Our own words may be wild by now.
            self._asked += self._end.take_requests()

    @rule(which=RING, ret=RET, field=FIELD, number=NUMBER)
    def answer(self, which: int, ret: int, field: str | None, number: int) -> None:
        self._take()
        if not self._asked:
            for port in self._grounds.zero.wait(0.01):
                self._grounds.zero.rearm(port)
            self._take()
        if self._asked:
            asked = self._asked.pop(which % len(self._asked))
            if asked.cmd in (raw.CONNECT, raw.ACCEPT) and ret == 0:
                with suppress(RefimplError, ValueError):
                    self._end.map_data_ring(asked)
            self._end.answer(asked, ret, **({} if field is None else {field: number}))

    @rule(req_id=NUMBER, cmd=NUMBER, ret=RET)
    def answer_nobody(self, req_id: int, cmd: int, ret: int) -> None:
        self._end.respond(raw.response(req_id, cmd, ret))

    @rule(which=RING, name=st.sampled_from((*raw.INDEXES_WORDS, "in_prod", "out_cons")), number=NUMBER)
    def write_index(self, which: int, name: str, number: int) -> None:
        if self._end.rings:
            ring = self._end.rings[which % len(self._end.rings)]
            ring.indexes[name] = number
            self._end.notify(ring.port)

    @rule(which=RING, count=st.integers(0, 4096))
    def produce(self, which: int, count: int) -> None:
        if self._end.rings:
            ring = self._end.rings[which % len(self._end.rings)]
            ring.indexes["in_prod"] = ring.indexes["in_cons"] + count
            ring.indexes["out_cons"] = ring.indexes["out_prod"]
            self._end.notify(ring.port)

    @rule(which=RING, offset=st.integers(0, 1023), number=NUMBER, data=st.binary(max_size=64))
    def write_anywhere(self, which: int, offset: int, number: int, data: bytes) -> None:
        if self._end.rings:
            ring = self._end.rings[which % len(self._end.rings)]
            ring.indexes.set_word(4 * offset, number)
            ring.data[: len(data)] = data

    @rule(offset=st.one_of(st.integers(0, 3), st.integers(0, 1023)), number=NUMBER)
    def write_commands_page(self, offset: int, number: int) -> None:
        self._end.commands.set_word(4 * offset, number)
        self._end.notify()

    @rule(count=st.integers(1, 100))
    def storm(self, count: int) -> None:
        for _ in range(count):
            self._end.notify()

    @rule(state=st.one_of(st.integers(0, 7), st.sampled_from(NODES)))
    def set_state(self, state: int | bytes) -> None:
        self._end.set_state(state)


@pytest.fixture
def grounds() -> Iterator[Grounds]:
    with ExitStack() as stack:
        yield Grounds(stack)


@pytest.mark.timeout(3600)
@pytest.mark.security("SEC-F-1", "SEC-F-3", "SEC-F-4", "SEC-F-5", "SEC-F-6", "SEC-F-9", "SEC-F-10", "SEC-F-14")
def test_no_sequence_of_steps_breaks_a_frontend(grounds: Grounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refimpl.frontend.calls.CONNECT_PATIENCE_SECONDS", 2.0)  # A CONNECT never answered excuses all.
    before = grounds.held()
    run_state_machine_as_test(lambda: AttackedFrontend(grounds), settings=SETTINGS)  # type: ignore[no-untyped-call]
    assert grounds.held() == before
