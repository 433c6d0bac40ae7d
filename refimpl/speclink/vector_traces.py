"""The vectors that are about what happens: index arithmetic, a data ring at work, xenstore nodes, states, steps."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from refimpl.commands import accept, bind, connect, listen, poll, release, socket
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.steps import SocketState
from refimpl.data_ring.indexes_page import IndexesPage
from refimpl.data_ring.notification import NotifyConsumer, consumer_must_notify, producer_must_notify
from refimpl.data_ring.structure import page_count
from refimpl.data_ring.workflow import backend_ends, frontend_ends
from refimpl.errors import PeerViolation
from refimpl.platform import PAGE_SIZE, Fences
from refimpl.xenstore import paths
from refimpl.xenstore.backend_nodes import BackendNodes
from refimpl.xenstore.frontend_nodes import FrontendNodes
from refimpl.xenstore.state_machine import BACKEND, FRONTEND, Action, Table, XenbusState, actions

_FENCES = Fences(*([lambda: None] * 3))
_U32 = 1 << 32
_SIZE = PAGE_SIZE


def index_arithmetic() -> dict[str, Any]:
    """How many bytes are unconsumed, where they lie, and who is notified, around the wraps of array and index."""
    cases = []
    for cons in (0, 1, _SIZE - 1, _SIZE, (1 << 31) - 1, _U32 - _SIZE, _U32 - 1):
        for used in (0, 1, _SIZE - 1, _SIZE):
            prod = (cons + used) % _U32
            cases.append(
                {
                    "size": _SIZE,
                    "cons": cons,
                    "prod": prod,
                    "unconsumed": used,
                    "readable": _pieces(cons, used),
                    "writable": _pieces(prod, _SIZE - used),
                }
            )
    impossible = [{"size": _SIZE, "cons": c, "prod": p} for c, p in ((0, _SIZE + 1), (1, 0), (0, 1 << 31))]
    return {"cases": cases, "impossible": impossible, "notify": [*_notifications()]}


def _pieces(index: int, count: int) -> list[dict[str, int]]:
    """Return the one or two runs of an array that ``count`` bytes from a free-running index take."""
    offset = index % _SIZE
    first = min(count, _SIZE - offset)
    pieces = [{"offset": offset, "length": first}, {"offset": 0, "length": count - first}]
    return [piece for piece in pieces if piece["length"]]


def _notifications() -> Iterator[dict[str, Any]]:
    for old_prod, cons in ((0, 0), (10, 10), (10, 5), (0, _U32 - 1), (_U32 - 1, _U32 - 1)):
        notify = producer_must_notify(cons, old_prod)
        yield {"who": "producer", "old_prod": old_prod, "cons_read_after": cons, "notify": notify}
    for old_cons, prod in ((0, _SIZE), (0, _SIZE - 1), (_U32 - 1, _SIZE - 1), (_U32 - 1, _SIZE - 2), (5, 5)):
        notify = consumer_must_notify(prod, old_cons, _SIZE, NotifyConsumer.FULL_ONLY)
        yield {"who": "consumer", "old_cons": old_cons, "prod_read_after": prod, "size": _SIZE, "notify": notify}


def data_ring() -> dict[str, Any]:
    """A ring of order 1 at work in both directions: what each action leaves in the indexes page."""
    return {"ring_order": 1, "array_size": _SIZE, "runs": [_run(0), _run(_U32 - 5)]}


def _run(start: int) -> dict[str, Any]:
    page_memory, ring_memory = bytearray(PAGE_SIZE), bytearray(page_count(1) * PAGE_SIZE)
    page = IndexesPage(memoryview(page_memory))
    page.describe_ring(1, (100, 101))
    for name in ("in_cons", "in_prod", "out_cons", "out_prod"):
        page.words[getattr(page.layout, name)] = start
    in_consumer, out_producer = frontend_ends(page, memoryview(ring_memory), _FENCES)
    in_producer, out_consumer = backend_ends(page, memoryview(ring_memory), _FENCES)
    actions_done: list[dict[str, Any]] = []

    def note(who: str, what: str, data: bytes, notify: bool) -> None:
        words = {
            name: page.words[getattr(page.layout, name)] for name in ("in_cons", "in_prod", "out_cons", "out_prod")
        }
        shown = data.hex() if len(data) <= 16 else ""
        actions_done.append(
            {"who": who, "what": what, "bytes": len(data), "hex": shown, "notify": notify, "indexes": words}
        )

    for data in (b"hello, backend", b"again"):
        note("frontend", "produce out", data, out_producer.write(data)[1])
    note("backend", "consume out", *out_consumer.read(_SIZE))
    full = bytes(range(256)) * (_SIZE // 256)
    note("backend", "produce in", full, in_producer.write(full)[1])
    note("frontend", "consume in", *in_consumer.read(_SIZE))
    return {"start_index": start, "actions": actions_done}


def xenstore_nodes() -> dict[str, Any]:
    """What both ends write, in both versions of the document, and what they make of what they read."""

    def words(nodes: dict[str, bytes]) -> dict[str, str]:
        return {name: value.decode() for name, value in nodes.items()}

    return {
        "paths": {
            "frontend": paths.frontend_path(7, 0),
            "backend": paths.backend_path(0, 7, 0),
            "of": {"frontend_domid": 7, "backend_domid": 0, "device_id": 0},
        },
        "frontend": {
            "published": words(FrontendNodes(port=9, ring_ref=8).to_nodes()),
            "draft": words(FrontendNodes(port=9, ring_ref=8, version=None).to_nodes()),
        },
        "backend": {
            "published": words(BackendNodes(4).to_nodes(draft_nodes=False)),
            "published and draft": words(BackendNodes(4).to_nodes(draft_nodes=True)),
        },
        "backend_read": [_read_backend(nodes) for nodes in _BACKENDS],
        "frontend_read": [_read_frontend(nodes) for nodes in _FRONTENDS],
    }


_BACKENDS: tuple[dict[str, str], ...] = (
    {"versions": "1", "max-page-order": "4", "function-calls": "1"},
    {"versions": "1, 2", "max-page-order": "9", "function-calls": "1"},
    {"versions": "2,1", "max-page-order": "20", "function-calls": "1"},
    {"version": "1", "max-dataring-page-order": "6"},
    {"version": "1", "max-page-order": "6", "function-calls": "1"},
    {"versions": "2", "max-page-order": "4", "function-calls": "1"},
    {"versions": "10", "max-page-order": "4", "function-calls": "1"},
    {"versions": "1", "max-page-order": "0", "function-calls": "1"},
    {"versions": "1", "max-page-order": "+4", "function-calls": "1"},
    {"versions": "1", "max-page-order": "4", "function-calls": "0"},
    {"versions": "1", "max-page-order": "4"},
    {"max-page-order": "4", "function-calls": "1"},
)
_FRONTENDS: tuple[dict[str, str], ...] = (
    {"version": "1", "ring-ref": "8", "port": "9"},
    {"ring-ref": "8", "port": "9"},
    {"version": "2", "ring-ref": "8", "port": "9"},
    {"version": "1", "ring-ref": "4294967296", "port": "9"},
    {"version": "1", "ring-ref": " 8", "port": "9"},
    {"version": "1", "ring-ref": "8"},
)


def _read_backend(nodes: dict[str, str]) -> dict[str, Any]:
    try:
        read = BackendNodes.from_nodes({name: value.encode() for name, value in nodes.items()})
    except PeerViolation as error:
        return {"nodes": nodes, "refused": error.requirement}
    return {"nodes": nodes, "max_page_order": read.max_page_order, "is_draft": read.is_draft}


def _read_frontend(nodes: dict[str, str]) -> dict[str, Any]:
    try:
        read = FrontendNodes.from_nodes({name: value.encode() for name, value in nodes.items()})
    except PeerViolation as error:
        return {"nodes": nodes, "refused": error.requirement}
    return {"nodes": nodes, "port": read.port, "ring_ref": read.ring_ref, "version": read.version}


def states() -> dict[str, Any]:
    """The two tables, and what happens from a few starts until nothing is left to do."""
    S = XenbusState
    return {
        "states": {state.name: state.value for state in S},
        "backend": _table(BACKEND),
        "frontend": _table(FRONTEND),
        "traces": [
            {"what": "start", "trace": trace(S.INITIALISING, S.INITIALISING)},
            {"what": "shutdown by the frontend", "trace": trace(S.CLOSING, S.CONNECTED)},
            {"what": "shutdown by the backend", "trace": trace(S.CONNECTED, S.CLOSING)},
            {"what": "the frontend vanishes", "trace": trace(S.CLOSED, S.CONNECTED)},
            {"what": "the frontend starts again", "trace": trace(S.INITIALISING, S.CLOSED)},
        ],
    }


def _table(table: Table) -> list[dict[str, Any]]:
    return [
        {"own": own.name, "peer": peer.name, "actions": [action.value for action in row]}
        for (own, peer), row in table.items()
    ]


def trace(frontend: XenbusState, backend: XenbusState) -> list[dict[str, str]]:
    """Let both ends act in turn, the backend first, and write down each action with the states after it."""
    steps_taken: list[dict[str, str]] = []

    def act(who: str, todo: tuple[Action, ...]) -> None:
        nonlocal frontend, backend
        for action in todo:
            if action.next_state is not None and who == "frontend":
                frontend = action.next_state
            elif action.next_state is not None:
                backend = action.next_state
            steps_taken.append({"who": who, "does": action.value, "frontend": frontend.name, "backend": backend.name})

    while True:
        before = len(steps_taken)
        act("backend", actions(BACKEND, backend, frontend))
        act("frontend", actions(FRONTEND, frontend, backend))
        if len(steps_taken) == before:
            return steps_taken


class _Entry:
    """A socket in the state that a command's fast path wants."""

    def __init__(self, state: SocketState) -> None:
        self.id = 1
        self.state = state


def steps() -> dict[str, Any]:
    """What a backend does for each command when nothing fails, a step a line."""
    address = InternetAddress("192.0.2.1", 8080)
    created, bound = SocketState.CREATED, SocketState.BOUND
    listening, connected = SocketState.LISTENING, SocketState.CONNECTED
    return {
        "SOCKET": _steps(socket.steps(socket.SocketRequest.make(0, 1)), created),
        "CONNECT": _steps(connect.steps(connect.ConnectRequest.make(0, 1, address, 8, 9)), created),
        "RELEASE of an active socket": _steps(release.steps(release.ReleaseRequest.make(0, 1)), connected),
        "RELEASE of a passive socket": _steps(release.steps(release.ReleaseRequest.make(0, 1)), listening),
        "BIND": _steps(bind.steps(bind.BindRequest.make(0, 1, address)), created),
        "LISTEN": _steps(listen.steps(listen.ListenRequest.make(0, 1, 5)), bound),
        "ACCEPT": _steps(accept.steps(accept.AcceptRequest.make(0, 1, 2, 8, 9)), listening),
        "POLL": _steps(poll.steps(poll.PollRequest.make(0, 1)), listening),
    }


def _steps(generator: Any, state: SocketState) -> list[dict[str, str]]:
    found = []
    entry = _Entry(state)
    try:
        step = next(generator)
        while True:
            found.append({"step": type(step).__name__, "is": _first_clause(step)})
            step = generator.send(entry)
    except StopIteration:
        return found


def _first_clause(step: object) -> str:
    """Return what the step's docstring says it does, up to its result."""
    first = (inspect.getdoc(step) or "").partition("\n")[0]
    return first.partition(";")[0].partition(". ")[0].rstrip(".")
