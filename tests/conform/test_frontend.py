"""The probes of a frontend: refimpl's passes all; one with a fault is found by the probe of its requirement."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from refimpl.commands.ring import FrontRing
from refimpl.conform.frontend import PROBES
from refimpl.conform.frontend.driver import Calls, RefimplSockets
from refimpl.conform.frontend.observed import Observed
from refimpl.conform.frontend.server import Server
from refimpl.conform.frontend.unseen import REASONS
from refimpl.conform.probes import Verdict
from refimpl.conform.report import Outcome
from refimpl.conform.walk import run
from refimpl.frontend import Frontend, lifecycle
from refimpl.frontend.data_ring import DataRing
from refimpl.platform import Platform
from refimpl.speclink import catalogue
from refimpl.speclink.project import find
from refimpl.testing import HostileFrontend, raw
from refimpl.xenstore.frontend_nodes import FrontendNodes
from refimpl.xenstore.state_machine import Action

PATIENCE = 60.0
ALL_CALLS = ("refused", "echo", "stream", "generate", "end", "reset", "listen", "many")


class InProcess(RefimplSockets):
    """The driver's sockets, of a frontend that is open."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend


@pytest.fixture
def observe(domains: tuple[Platform, Platform]) -> Iterator[Callable[..., Observed]]:
    """Observe the frontend, as it is by now, while the driver makes some calls."""
    host, guest = domains
    deadline = time.monotonic() + PATIENCE
    server = Server(host, guest.domid, print)
    serving = threading.Thread(target=server.serve, args=(lambda: time.monotonic() > deadline,))

    def observe(*names: str, tells: bool = True) -> Observed:
        serving.start()
        with Frontend.open(guest, timeout=PATIENCE) as frontend:
            calls = Calls(InProcess(frontend))
            told: dict[str, object] = {}
            for name in names:
                try:
                    told[name] = getattr(calls, name)()
                except OSError as error:
                    told[name] = f"{type(error).__name__} {error.errno}"
            with suppress(OSError):
                calls.tell(told if tells else {})
        serving.join()
        return server.observed

    yield observe
    deadline = 0.0
    if serving.is_alive():
        serving.join()


def outcomes_of(observed: Observed) -> dict[str, Outcome]:
    return {probe.name: run(probe, observed) for probe in PROBES}


def test_refimpls_frontend_keeps_all(observe: Any) -> None:
    outcomes = outcomes_of(observe(*ALL_CALLS))
    unmet = {name: each.seen for name, each in outcomes.items() if each.verdict is not Verdict.PASS}
    assert unmet == {}


def test_what_no_program_called_is_not_observable(observe: Any) -> None:
    outcomes = outcomes_of(observe("refused", tells=False))
    assert not [name for name, each in outcomes.items() if each.verdict in (Verdict.FAIL, Verdict.DIFFERS)]
    unseen = {name: each.seen for name, each in outcomes.items() if each.verdict is Verdict.NOT_OBSERVABLE}
    assert unseen["requests.listen_has_a_backlog"] == "no program made a call that sends LISTEN"
    assert unseen["rings.in_cons_follows_what_was_read"] == "no program had bytes go through in"
    assert unseen["requests.every_accept_has_a_ring_of_its_own"] == "no program made a call that sends ACCEPT"


Fault = Callable[[pytest.MonkeyPatch], None]


def writing(cmd: int, offset: int, form: str, value: int) -> Fault:
    """Write another number into the requests of a command."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        right = FrontRing.push_request

        def push(self: FrontRing, request: bytes) -> bool:
            changed = bytearray(request)
            if struct.unpack_from("<I", request, 4)[0] == cmd:
                struct.pack_into(form, changed, offset, value)
            return right(self, bytes(changed))

        patch.setattr(FrontRing, "push_request", push)

    return apply


def publishing(**nodes: bytes) -> Fault:
    """Publish other nodes."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        right = FrontendNodes.to_nodes
        named = {name.replace("_", "-"): value for name, value in nodes.items()}
        patch.setattr(FrontendNodes, "to_nodes", lambda self: right(self) | named)

    return apply


def never_notifying_of_requests(patch: pytest.MonkeyPatch) -> None:
    right = FrontRing.push_request
    patch.setattr(FrontRing, "push_request", lambda self, request: right(self, request) and False)


def never_notifying_of_data(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DataRing, "_notify", lambda self: None)


def writing_an_error_at_close(patch: pytest.MonkeyPatch) -> None:
    right = DataRing.publish

    def publish(self: DataRing) -> None:
        right(self)
        self._page.words[2] = 2**32 - 9  # Linux's frontend keeps its closed flag there.

    patch.setattr(DataRing, "publish", publish)


def writing_into_in(patch: pytest.MonkeyPatch) -> None:
    right = DataRing.publish

    def publish(self: DataRing) -> None:
        right(self)
        self._pages.memory[:4] = b"mine"

    patch.setattr(DataRing, "publish", publish)


def closing_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lifecycle, "FRONTEND_SHUTDOWN", (Action.FREE, Action.GO_CLOSED))


FAULTS: list[Any] = [
    ("SOCKET-4", Verdict.FAIL, "are_inet_streams", writing(raw.SOCKET, 24, "<I", 6), "refused"),
    ("CONNECT-15", Verdict.DIFFERS, "flags_are_0", writing(raw.CONNECT, 48, "<I", 0x800), "refused"),
    ("CONNECT-14", Verdict.DIFFERS, "connects_address", writing(raw.CONNECT, 44, "<I", 128), "refused"),
    ("FAMILY-5", Verdict.DIFFERS, "rest_of_an_address", writing(raw.CONNECT, 40, "<I", 7), "refused"),
    ("FAMILY-6", Verdict.FAIL, "network_order", writing(raw.BIND, 20, "<I", 0x7F000001), "listen"),
    ("FAMILY-4", Verdict.FAIL, "begins_with_its_family", writing(raw.CONNECT, 16, ">H", 2), "refused"),
    ("BIND-3", Verdict.FAIL, "bind_has_an_address", writing(raw.BIND, 16, "<H", 10), "listen"),
    ("BIND-4", Verdict.DIFFERS, "binds_address", writing(raw.BIND, 44, "<I", 8), "listen"),
    ("LISTEN-2", Verdict.FAIL, "backlog", writing(raw.LISTEN, 16, "<I", 0), "listen"),
    ("RELEASE-6", Verdict.DIFFERS, "release_names", writing(raw.RELEASE, 16, "<B", 0xA5), "refused"),
    ("CONNECT-4", Verdict.FAIL, "connect_names_a_ring", writing(raw.CONNECT, 52, "<I", 2**32 - 16), "echo"),
    ("CONNECT-3", Verdict.FAIL, "channel_of_its_own", writing(raw.CONNECT, 56, "<I", 2**31 - 16), "echo"),
    ("ACCEPT-4", Verdict.FAIL, "accept_has_an_event", writing(raw.ACCEPT, 28, "<I", 2**31 - 16), "listen"),
    ("ACCEPT-2", Verdict.FAIL, "accept_names_a_new", writing(raw.ACCEPT, 16, "<Q", 1), "listen"),
    ("FNODE-2", Verdict.FAIL, "version", publishing(version=b"2"), "refused"),
    ("RING-12", Verdict.FAIL, "requests_are_notified", never_notifying_of_requests, "refused"),
    ("WORKFLOW-8", Verdict.FAIL, "a_producer_notifies", never_notifying_of_data, "echo"),
    ("WORKFLOW-15", Verdict.DIFFERS, "backends_words", writing_an_error_at_close, "end"),
    ("NORING-2", Verdict.FAIL, "in_is_never_written", writing_into_in, "end"),
    ("STATE-8", Verdict.DIFFERS, "starts_a_shutdown", closing_at_once, "refused"),
]


@pytest.mark.parametrize(
    ("id", "verdict", "name", "fault", "call"), FAULTS, ids=[f"{id}-{verdict}" for id, verdict, *_ in FAULTS]
)
def test_a_fault_is_found_by_the_probe_of_its_requirement(
    observe: Any, monkeypatch: pytest.MonkeyPatch, id: str, verdict: Verdict, name: str, fault: Fault, call: str
) -> None:
    fault(monkeypatch)
    outcomes = outcomes_of(observe(call))
    asked = [probe for probe in PROBES if id in probe.ids and name in probe.name]
    assert [outcomes[probe.name].verdict for probe in asked] == [verdict], [outcomes[p.name] for p in asked]


@pytest.mark.parametrize(
    ("id", "nodes"),
    [
        ("FNODE-4", {"ring-ref": 99_999}),
        ("FNODE-3", {"port": b"none"}),
        ("FNODE-3", {"port": 4000}),
    ],
)
def test_a_frontend_that_publishes_what_cannot_be_used_has_failed(
    domains: tuple[Platform, Platform], id: str, nodes: dict[str, bytes | int]
) -> None:
    host, guest = domains
    server = Server(host, guest.domid, print)
    deadline = time.monotonic() + PATIENCE
    serving = threading.Thread(target=server.serve, args=(lambda: time.monotonic() > deadline,))
    serving.start()
    with HostileFrontend(guest) as frontend:
        frontend.await_state(2)
        for name, value in ({"version": b"1", "ring-ref": frontend.ring_ref, "port": frontend.port} | nodes).items():
            frontend.write_node(name, value)
        frontend.set_state(3)
        frontend.await_state(5)
        frontend.set_state(6)
        serving.join(PATIENCE)
    verdicts = {probe.name: run(probe, server.observed) for probe in PROBES}
    failing = {id for each in verdicts.values() if each.verdict is Verdict.FAIL for id in each.probe.ids}
    assert id in failing
    assert not failing - {"FNODE-3", "FNODE-4", "FNODE-5", "RING-2"}


def test_every_requirement_of_a_frontend_has_a_probe_or_a_reason() -> None:
    whole = catalogue.load(find(Path(__file__).parent))
    probed = {id for probe in PROBES for id in probe.ids}
    assert probed | set(REASONS) <= set(whole.requirements)
    needed = {r.id for r in whole.requirements.values() if "frontend" in r.who and r.level != "info"}
    assert needed - probed == set(REASONS) & needed
    assert not set(REASONS) & probed
