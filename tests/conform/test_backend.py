"""The probes of a backend: refimpl's passes all; a backend with a fault is found by the probe of its requirement."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refimpl.backend import Backend, Policy, Settings, dispatcher
from refimpl.backend import connection as backend_connection
from refimpl.backend.dispatcher import Dispatcher
from refimpl.commands import connect, expanding, release, steps
from refimpl.commands.message import RequestHead, Response
from refimpl.commands.ring import BackRing
from refimpl.conform.backend import PROBES
from refimpl.conform.backend.guest import Guest
from refimpl.conform.backend.unseen import REASONS
from refimpl.conform.probes import Probe, Verdict
from refimpl.conform.report import Outcome
from refimpl.conform.walk import probe_backend
from refimpl.data_ring import structure
from refimpl.errors import PeerViolation
from refimpl.platform import Platform
from refimpl.speclink import catalogue
from refimpl.speclink.project import find
from refimpl.xenstore import frontend_nodes
from refimpl.xenstore.backend_nodes import BackendNodes

Fault = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def walk(domains: tuple[Platform, Platform]) -> Iterator[Callable[..., dict[str, Outcome]]]:
    """Start a backend as it is by now, and carry out probes: ``walk(probes, patience)``."""
    host, platform = domains
    backend = Backend(host, Settings(policy=Policy(allow_everything=True)))

    def walk(probes: list[Probe], patience: float = 20.0) -> dict[str, Outcome]:
        backend.start()
        guest = Guest(platform, patience=patience)
        try:
            return {each.probe.name: each for each in probe_backend(guest, probes, print)}
        finally:
            guest.disconnect()

    yield walk
    backend.stop()


@pytest.mark.parametrize("is_hostile", [False, True], ids=["honest", "hostile"])
def test_refimpls_backend_keeps_all(walk: Any, is_hostile: bool) -> None:
    outcomes = walk([probe for probe in PROBES if probe.is_hostile is is_hostile])
    by_verdict: dict[Verdict, dict[str, str | None]] = {verdict: {} for verdict in Verdict}
    for name, outcome in outcomes.items():
        by_verdict[outcome.verdict][name] = outcome.seen
    assert by_verdict[Verdict.FAIL] == {}
    differing = set() if is_hostile else {"workflow.a_consumer_notifies_always"}  # By choice: E-CONSNOTIFY
    assert set(by_verdict[Verdict.DIFFERS]) == differing


def test_what_a_guest_may_reach_makes_no_difference(domains: tuple[Platform, Platform]) -> None:
    """By its default policy the backend lets a guest reach itself: that is all that probing needs."""
    host, platform = domains
    backend = Backend(host, Settings(policy=Policy()))
    backend.start()
    guest = Guest(platform, patience=20.0)
    chosen = [p for p in PROBES if p.name.startswith(("connect.", "rationale.")) and not p.is_hostile]
    outcomes = list(probe_backend(guest, chosen, print))
    guest.disconnect()
    backend.stop()
    assert {each.probe.name: each.seen for each in outcomes if each.verdict is not Verdict.PASS} == {}


def answering(change: Callable[[Any, Response], Response]) -> Fault:
    """Answer otherwise: ``change(request, response)`` is what is sent."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        right = Response.to

        def wrong(request: RequestHead, ret: int = 0) -> Response:
            return change(request, right(request, ret))

        patch.setattr(Response, "to", wrong)

    return apply


def other(response: Response, **fields: int) -> Response:
    return dataclasses.replace(response, **fields)


def carrying_out(command: int, changed: Callable[[Any], steps.Steps]) -> Fault:
    """Carry a command out otherwise."""
    return lambda patch: patch.setitem(expanding.COMMANDS, command, (expanding.COMMANDS[command][0], changed))


def map_before_connect(request: Any) -> steps.Steps:
    entry = yield steps.FindSocket(request.id)
    yield steps.MapIndexesPage(entry, request.ref)
    yield from connect.steps(request)


def answer_poll_at_once(request: Any) -> steps.Steps:
    yield steps.FindSocket(request.id)


def do_nothing(_request: Any) -> steps.Steps:
    return
    yield


def leave_out(module: Any, left_out: type) -> Callable[[Any], steps.Steps]:
    def changed(request: Any) -> steps.Steps:
        original, result = module.steps(request), None
        while True:
            try:
                step = original.send(result)
            except StopIteration:
                return
            result = None if isinstance(step, left_out) else (yield step)

    return changed


def publishing(**nodes: bytes) -> Fault:
    """Publish other nodes."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        right = BackendNodes.to_nodes
        named = {name.replace("_", "-"): value for name, value in nodes.items()}
        patch.setattr(BackendNodes, "to_nodes", lambda self, **more: right(self, **more) | named)

    return apply


def ending_with(error: int) -> Fault:
    def apply(patch: pytest.MonkeyPatch) -> None:
        def publish(self: Any) -> None:
            self._forget_timer()
            self._page.in_error = error
            self._notify()

        patch.setattr(backend_connection.Connection, "_publish_in_error", publish)

    return apply


def taking_any_number(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(frontend_nodes, "parse_uint32", lambda requirement, name, value, **_: int(value or b"", 0))


def leaving_pad(patch: pytest.MonkeyPatch) -> None:
    right = BackRing.push_response
    pad = (0xCCCCCCCC).to_bytes(4, "little")
    patch.setattr(BackRing, "push_response", lambda self, raw: right(self, raw[:12] + pad + raw[16:]))


def follow_no_violation(patch: pytest.MonkeyPatch) -> None:
    right = BackRing._unconsumed

    def unconsumed(self: BackRing) -> int:
        try:
            return right(self)
        except PeerViolation:
            return 0

    patch.setattr(BackRing, "_unconsumed", unconsumed)


def swap_halves(patch: pytest.MonkeyPatch) -> None:
    import refimpl.data_ring.workflow as workflow

    right = structure.split
    users = [module for module in (structure, workflow) if hasattr(module, "split")]
    for module in users:
        patch.setattr(module, "split", lambda memory: right(memory)[::-1])


FAULTS: list[Any] = [
    ("RING-16", Verdict.FAIL, "unknown_commands", answering(lambda q, r: other(r, ret=-22) if q.cmd > 6 else r)),
    ("RAT-3", Verdict.DIFFERS, "unknown_commands", answering(lambda q, r: other(r, ret=-95) if q.cmd > 6 else r)),
    ("RING-9", Verdict.FAIL, "req_id_and_cmd", answering(lambda q, r: other(r, cmd=0))),
    ("ERRNO-1", Verdict.FAIL, "number_of_the_table", answering(lambda q, r: other(r, ret=-r.ret))),
    ("SOCKET-5", Verdict.FAIL, "socket.the_response", answering(lambda q, r: other(r, id=r.id & 0xFFFFFFFF))),
    ("ACCEPT-14", Verdict.FAIL, "listeners_id", answering(lambda q, r: other(r, id=getattr(q, "id_new", r.id)))),
    ("POLL-5", Verdict.FAIL, "polls_response", answering(lambda q, r: other(r, id=0) if q.cmd == 6 else r)),
    ("FAMILY-2", Verdict.DIFFERS, "other_comb", answering(lambda q, r: other(r, ret=-97) if r.ret == -524 else r)),
    ("CONNECT-6", Verdict.FAIL, "never_looks_at_the_ring", carrying_out(1, map_before_connect)),
    ("CONNECT-5", Verdict.DIFFERS, "an_unknown_id", answering(lambda q, r: other(r, ret=-22) if r.ret == -9 else r)),
    ("POLL-3", Verdict.FAIL, "poll_waits", carrying_out(6, answer_poll_at_once)),
    ("RELEASE-1", Verdict.FAIL, "an_active_socket", carrying_out(2, do_nothing)),
    ("RELEASE-4", Verdict.FAIL, "ring_is_let_go", carrying_out(2, leave_out(release, steps.UnbindEventChannel))),
    ("CONNECT-9", Verdict.FAIL, "completes_the_connect", carrying_out(1, leave_out(connect, steps.StartDataRing))),
    ("BNODE-4", Verdict.FAIL, "at_least_1", publishing(max_page_order=b"0")),
    ("BNODE-3", Verdict.FAIL, "max_page_order_is_a_number", publishing(max_page_order=b"nine")),
    ("BNODE-1", Verdict.DIFFERS, "versions_has", publishing(versions=b"1,2")),
    ("BNODE-5", Verdict.DIFFERS, "function_calls", publishing(function_calls=b"7")),
    ("IDXPAGE-16", Verdict.FAIL, "end_of_a_stream", ending_with(-104)),
    ("IDXPAGE-16", Verdict.DIFFERS, "end_of_a_stream", ending_with(107)),
    ("IDX-6", Verdict.FAIL, "first_half", swap_halves),
    (
        "WORKFLOW-8",
        Verdict.FAIL,
        "a_producer_notifies",
        lambda patch: patch.setattr(backend_connection.Connection, "_notify", lambda self: None),
    ),
    (
        "STATE-9",
        Verdict.FAIL,
        "closing_unbinds",
        lambda patch: patch.setitem(dispatcher._CARRY_OUT, steps.UnbindEventChannel, lambda *_: None),
    ),
    ("SEC-B-9", Verdict.DIFFERS, "a_bad_grant", answering(lambda q, r: other(r, ret=-5) if r.ret == -14 else r)),
    ("SEC-B-17", Verdict.FAIL, "no_numbers", taking_any_number),
    ("SEC-B-5", Verdict.DIFFERS, "nothing_stale", leaving_pad),
    (
        "SEC-B-1",
        Verdict.FAIL,
        "wild_req_prod",
        follow_no_violation,
    ),
    (
        "SEC-B-4",
        Verdict.FAIL,
        "polls_that_make_no_sense",
        lambda patch: patch.setattr(
            Dispatcher, "_fail", lambda self, command, refused: command.undo.close() or self._pending.pop(command)
        ),
    ),
]


@pytest.mark.parametrize(
    ("id", "verdict", "name", "fault"), FAULTS, ids=[f"{id}-{verdict}" for id, verdict, *_ in FAULTS]
)
def test_a_fault_is_found_by_the_probe_of_its_requirement(
    walk: Any, monkeypatch: pytest.MonkeyPatch, id: str, verdict: Verdict, name: str, fault: Fault
) -> None:
    fault(monkeypatch)
    asked = [probe for probe in PROBES if id in probe.ids and name in probe.name]
    outcomes = walk(asked, patience=1.0)
    assert asked
    assert {each.verdict for each in outcomes.values()} == {verdict}, outcomes


def test_a_backend_that_is_gone_leaves_the_rest_unseen(domains: tuple[Platform, Platform]) -> None:
    """What follows the probe after which nobody answers is not observable, and says after which."""
    host, platform = domains
    backend = Backend(host, Settings(policy=Policy(allow_everything=True)))
    backend.start()
    guest = Guest(platform, patience=0.3)
    last = Probe(("SOCKET-1",), lambda _guest: backend.stop(), False)
    first, second, third = probe_backend(guest, [PROBES[0], last, PROBES[0]], print)
    guest.drop()
    assert (first.verdict, second.verdict, third.verdict) == (Verdict.PASS, Verdict.FAIL, Verdict.NOT_OBSERVABLE)
    assert "the backend could not be reached any more" in (third.seen or "")


def test_a_backend_that_never_comes_has_failed(domains: tuple[Platform, Platform]) -> None:
    _, platform = domains
    guest = Guest(platform, patience=0.2)
    outcomes = list(probe_backend(guest, [probe for probe in PROBES if not probe.is_hostile][:8], print))
    guest.drop()
    assert {id for each in outcomes if each.verdict is Verdict.FAIL for id in each.probe.ids} == {"XS-1"}
    assert {each.verdict for each in outcomes} == {Verdict.FAIL, Verdict.NOT_OBSERVABLE}


def test_every_requirement_of_a_backend_has_a_probe_or_a_reason() -> None:
    whole = catalogue.load(find(Path(__file__).parent))
    probed = {id for probe in PROBES for id in probe.ids}
    known = {r.id for r in whole.requirements.values()} | set(whole.rules)
    assert probed | set(REASONS) <= known
    needed = {r.id for r in whole.requirements.values() if "backend" in r.who and r.level != "info"}
    needed |= {rule.id for rule in whole.rules.values() if rule.who == "backend"}
    assert needed - probed == set(REASONS) & needed
    assert not set(REASONS) & probed
