"""Pure decoders as fuzz targets: any bytes are a value or one of our errors, never another exception, never a loop.

Each target takes bytes. ``python tests/fuzz/decoders.py NAME [libFuzzer's options] [CORPUS]`` lets atheris look for
bytes that break one, guided by coverage; the tests run what is in ``corpus/NAME`` and some random bytes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from refimpl.backend.policy_file import parse_policy
from refimpl.backend.rules import CALLS, CALLS_WITH_ADDRESS, Call, Rule
from refimpl.commands import expanding
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.message import Response
from refimpl.commands.ring import RING_SLOTS, BackRing, FrontRing
from refimpl.data_ring.indexes_page import IndexesPage, recognise_draft_layout
from refimpl.data_ring.workflow import backend_ends, frontend_ends
from refimpl.errors import CommandRefused, Misuse, PeerViolation
from refimpl.fence import fences
from refimpl.platform import PAGE_SIZE
from refimpl.shm.store import Quotas
from refimpl.shm.store import session as store_session
from refimpl.shm.store.database import Database
from refimpl.shm.store.session import Session
from refimpl.xenstore.backend_nodes import NAMES as BACKEND_NAMES
from refimpl.xenstore.backend_nodes import BackendNodes
from refimpl.xenstore.frontend_nodes import NAMES as FRONTEND_NAMES
from refimpl.xenstore.frontend_nodes import FrontendNodes
from refimpl.xenstore.state_machine import parse_state

FENCES = fences()
#: What decoders may raise.
EXPECTED = (PeerViolation, CommandRefused, Misuse)


def page_of(data: bytes) -> memoryview:
    """A page that begins with the bytes; what is missing repeats them."""
    whole = (data * (PAGE_SIZE // max(1, len(data)) + 1))[:PAGE_SIZE] if data else bytes(PAGE_SIZE)
    return memoryview(bytearray(whole))


def request(data: bytes) -> None:
    """A request's slot, and its command's steps up to the first that needs a backend."""
    decoded, steps = expanding.decode(data[:64].ljust(64, b"\0"))
    expanding.command_name(decoded.cmd)
    next(steps, None)
    steps.close()


def response(data: bytes) -> None:
    """A response's slot."""
    Response.from_bytes(data[:24].ljust(24, b"\0"))


def address(data: bytes) -> None:
    """An address's 28 bytes and ``len``."""
    length = int.from_bytes(data[28:32], "little")
    parsed = InternetAddress.from_request(data[:28].ljust(28, b"\0"), length)
    assert 0 <= parsed.port_number < 2**16


def back_ring(data: bytes) -> None:
    """A commands ring's page as the backend finds it."""
    ring = BackRing(page_of(data), FENCES, peer=1)
    taken = 0
    while (slot := ring.take_request()) is not None:
        assert len(slot) == 64
        taken += 1
        assert taken <= RING_SLOTS
    for _ in range(taken):
        ring.push_response(bytes(24))
    ring.final_check()


def front_ring(data: bytes) -> None:
    """A commands ring's page as the backend leaves it to the frontend, with some requests under way."""
    page = page_of(data)
    ring = FrontRing(page, FENCES, peer=0)
    ring.initialise()
    for _ in range(len(data) % (RING_SLOTS + 1)):
        ring.push_request(bytes(64))
    page[:16] = data[:16].ljust(16, b"\0")
    taken = 0
    while ring.take_response() is not None:
        taken += 1
        assert taken <= RING_SLOTS
    ring.final_check()


def ring_description(data: bytes) -> None:
    """An indexes page's ring_order and ref[]."""
    page = page_of(data)
    layout = recognise_draft_layout(bytes(page))
    for indexes in (IndexesPage(page), IndexesPage(page, layout)):
        order, refs = indexes.read_ring_description(9, (8, 9))
        assert 1 <= order <= 9 and len(set(refs)) == len(refs) == 1 << order
        indexes.release()


def data_ring(data: bytes) -> None:
    """An indexes page's words under both ends; they change between any two steps."""
    page = memoryview(bytearray(PAGE_SIZE))
    for is_backend in (True, False):
        array = memoryview(bytearray(2 * PAGE_SIZE))
        if is_backend:
            producer, consumer = backend_ends(IndexesPage(page), array, FENCES, peer=1)
        else:
            consumer, producer = frontend_ends(IndexesPage(page), array, FENCES, peer=1)
        for offset in range(0, min(len(data), 512), 4):
            page[offset % 80 : offset % 80 + 4] = data[offset : offset + 4].ljust(4, b"\0")
            assert sum(map(len, producer.writable())) <= PAGE_SIZE
            count, _ = producer.write(data[:offset])
            assert count <= PAGE_SIZE
            assert len(consumer.read(offset)[0]) <= min(offset, PAGE_SIZE)


def nodes(data: bytes) -> None:
    """All nodes that a peer writes."""
    parts: list[bytes | None] = [part if part != b"-" else None for part in data.split(b"\xff")]
    parts += [None] * 8
    FrontendNodes.from_nodes(dict(zip(FRONTEND_NAMES, parts, strict=False)))
    BackendNodes.from_nodes(dict(zip(BACKEND_NAMES, parts, strict=False)))
    parse_state(parts[0])


def store_requests(data: bytes) -> None:
    """A guest's requests to xenstore's server, with its own errors not hidden in answers."""
    database = Database(Quotas(), lambda domid: None)
    database.introduce(1)
    session = Session(database, database.domains.get(1))
    place = 0
    while place < len(data):
        operation, transaction, length = data[place : place + 3].ljust(3, b"\0")
        payload = data[place + 3 : place + 3 + length]
        session.handle(operation % 64, 1, transaction % 4, payload)
        place += 3 + length


def policy_file(data: bytes) -> None:
    """A policy file, and what it says of each call; mistakes are named with file and line."""
    text = data.decode("utf-8", "replace")
    try:
        policy = parse_policy(text, "FILE")
    except Misuse as misuse:
        assert all(line.startswith("FILE:") for line in str(misuse).splitlines())
        return
    for name in CALLS:
        address = InternetAddress("192.0.2.1", 80) if name in CALLS_WITH_ADDRESS else None
        decision = policy.decide(Call(1, name, address))
        assert decision.why


def rule_text(data: bytes) -> None:
    """A rule as ``--allow`` and ``--deny`` take it."""
    rule = Rule.parse(data.decode("utf-8", "replace"), allow=False)
    assert str(rule)
    for name in rule.calls:
        rule.matches(Call(1, name, InternetAddress("192.0.2.1", 80) if name in CALLS_WITH_ADDRESS else None))


def _refuse_to_log(record: logging.LogRecord) -> bool:
    raise AssertionError(f"the store failed: {record.getMessage()}")


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        request,
        response,
        address,
        back_ring,
        front_ring,
        ring_description,
        data_ring,
        nodes,
        store_requests,
        policy_file,
        rule_text,
    )
}


def run(target: Callable[[bytes], None], data: bytes) -> None:
    """Run a target; what it may raise is no finding."""
    store_session._log.addFilter(_refuse_to_log)
    try:
        target(data)
    except EXPECTED:
        pass
    finally:
        store_session._log.removeFilter(_refuse_to_log)


def main() -> None:
    """Let atheris look for findings in the target named first."""
    import atheris

    name = sys.argv.pop(1)
    atheris.instrument_all()
    target: Any = TARGETS[name]
    atheris.Setup(sys.argv, lambda data: run(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
