"""Golden bytes and numbers for implementations in other languages, made from the code: ``spec/vectors/*.json``.

Numbers are JSON numbers up to 2**32 - 1, and decimal strings above (an id has 64 bits). Bytes are lower-case hex.
A page is given by its size and the runs of bytes in it that are not zero.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from refimpl.commands.accept import AcceptRequest
from refimpl.commands.address_format import InternetAddress
from refimpl.commands.bind import BindRequest
from refimpl.commands.connect import ConnectRequest
from refimpl.commands.error_numbers import NOT_IN_THE_DOCUMENT, ErrorNumber
from refimpl.commands.listen import ListenRequest
from refimpl.commands.message import Command, RequestHead, Response
from refimpl.commands.poll import PollRequest
from refimpl.commands.release import ReleaseRequest
from refimpl.commands.ring import RING_PAGE, RING_SLOTS, BackRing, FrontRing, must_notify, slot_offset
from refimpl.commands.socket import SocketRequest
from refimpl.data_ring.indexes_page import (
    DATA_INTF,
    DRAFT_A,
    DRAFT_B,
    MAX_RING_ORDER,
    PUBLISHED,
    IndexesPage,
    PageLayout,
)
from refimpl.data_ring.structure import array_size_bytes, page_count
from refimpl.layout import Layout, Structure
from refimpl.platform import PAGE_SIZE, Fences
from refimpl.speclink import vector_traces
from refimpl.speclink.evidence import write_whole
from refimpl.speclink.findings import Finding

FOLDER = "spec/vectors"
_JSON_NUMBER_LIMIT = 1 << 32
_IDS = (0, 1, 0xFFFF888012345678, 0xFFFFFFFFFFFFFFFF)
_NO_FENCES = Fences(*([lambda: None] * 3))


def number(value: int) -> int | str:
    """Return a number as the vectors have it: JSON readers of other languages keep 53 bits."""
    return value if abs(value) < _JSON_NUMBER_LIMIT else str(value)


def layout(declared: Layout) -> dict[str, Any]:
    """Describe a layout."""
    fields = [{"name": f.name, "offset": f.offset, "size": f.size, "type": f.c_type} for f in declared.fields]
    return {"structure": declared.name, "size": declared.size, "fields": fields}


def page(raw: bytes) -> dict[str, Any]:
    """Describe a page by its bytes that are not zero, in runs of whole 32-bit words."""
    runs: list[dict[str, Any]] = []
    for at in range(0, len(raw), 4):
        word = raw[at : at + 4]
        if not any(word):
            continue
        if runs and runs[-1]["at"] + len(runs[-1]["hex"]) // 2 == at:
            runs[-1]["hex"] += word.hex()
        else:
            runs.append({"at": at, "hex": word.hex()})
    return {"size": len(raw), "not_zero": runs}


def _fields(message: Structure) -> dict[str, Any]:
    values = {name: getattr(message, name) for name in message.LAYOUT.value_names}
    return {n: v.hex() if isinstance(v, bytes) else number(int(v)) for n, v in values.items()}


def _requests() -> Iterator[Structure]:
    address = InternetAddress("192.0.2.1", 8080)
    for req_id, id in enumerate(_IDS):
        yield SocketRequest.make(req_id, id)
    yield ConnectRequest.make(4, _IDS[2], address, ref=8, evtchn=17)
    yield ConnectRequest(5, Command.CONNECT, 1, address.to_bytes(), 28, 0x800, 0xFFFFFFFF, 0xFFFFFFFF)
    yield ReleaseRequest.make(6, _IDS[2])
    yield ReleaseRequest(7, Command.RELEASE, 1, reuse=1)
    yield BindRequest.make(8, 1, InternetAddress("0.0.0.0", 80))
    yield ListenRequest.make(9, 1, 128)
    yield ListenRequest.make(10, 1, 0xFFFFFFFF)
    yield AcceptRequest.make(11, 1, _IDS[2], ref=9, evtchn=18)
    yield PollRequest.make(31, 1)


def requests() -> dict[str, Any]:
    """Every command's layout, and requests with their bytes."""
    classes = (SocketRequest, ConnectRequest, ReleaseRequest, BindRequest, ListenRequest, AcceptRequest, PollRequest)
    return {
        "commands": {command.name: command.value for command in Command},
        "layouts": [layout(c.LAYOUT) for c in classes],
        "requests": [
            {"command": Command(fields["cmd"]).name, "fields": fields, "hex": request.to_bytes().hex()}
            for request in _requests()
            for fields in [_fields(request)]
        ],
    }


def responses() -> dict[str, Any]:
    """The response's layout, and responses with their bytes."""
    found = [Response.to(RequestHead.from_bytes(r.to_bytes())) for r in _requests()]
    unknown = RequestHead(12, 7, 0x1122334455667788)
    found.append(Response.to(unknown, ErrorNumber.ENOTSUP))
    found += [Response.to(RequestHead(13, Command.CONNECT, 1), ret) for ret in (ErrorNumber.ECONNREFUSED, -4095)]
    return {
        "layout": layout(Response.LAYOUT),
        "responses": [{"fields": _fields(r), "hex": r.to_bytes().hex()} for r in found],
    }


def commands_ring() -> dict[str, Any]:
    """The commands ring's page after each of a few actions, and when an event is needed."""
    return {
        "layout": layout(RING_PAGE),
        "slots": RING_SLOTS,
        "slot_offsets": [{"index": i, "offset": slot_offset(i)} for i in (0, 1, 31, 32, 0xFFFFFFFF)],
        "pages": [*_ring_pages(0), *_ring_pages(0xFFFFFFFF)],
        "events": [
            {"new": new, "old": old, "event": event, "notify": must_notify(new, old, event)}
            for new, old in ((1, 0), (2, 1), (3, 1), (0, 0xFFFFFFFF), (1, 0xFFFFFFFF), (0x80000000, 0x7FFFFFFF))
            for event in sorted({(old + step) % (1 << 32) for step in (-1, 0, 1, 2, 32)})
        ],
    }


def _ring_pages(start: int) -> Iterator[dict[str, Any]]:
    """One request there and its response back, from a start index."""
    memory = bytearray(PAGE_SIZE)
    front = FrontRing(memoryview(memory), _NO_FENCES, start_index=start)
    back = BackRing(memoryview(memory), _NO_FENCES, start_index=start)
    request = SocketRequest.make(0, 1)

    def state(after: str, notify: bool | None = None) -> dict[str, Any]:
        found = {"start_index": start, "after": after, "page": page(bytes(memory))}
        return found if notify is None else {**found, "notify": notify}

    front.initialise()
    yield state("the frontend has initialised the page")
    yield state("the frontend has published one request", front.push_request(request.to_bytes()))
    taken = back.take_request() or b""
    back.final_check()
    yield state("the backend has taken it and looked once more")
    answer = Response.to(RequestHead.from_bytes(taken))
    yield state("the backend has published the response", back.push_response(answer.to_bytes()))


def indexes_pages() -> dict[str, Any]:
    """The indexes page's layout, its content as a frontend hands it over, and the drafts' layouts."""
    pages = []
    for ring_order in (1, 2, 4, MAX_RING_ORDER):
        memory = bytearray(PAGE_SIZE)
        IndexesPage(memoryview(memory)).describe_ring(ring_order, range(100, 100 + page_count(ring_order)))
        pages.append({"ring_order": ring_order, "first_ref": 100, "page": page(bytes(memory))})
    sizes = [
        {
            "ring_order": o,
            "pages": page_count(o),
            "array_size": array_size_bytes(o),
            "refs_end": 132 + 4 * page_count(o),
        }
        for o in range(1, MAX_RING_ORDER + 1)
    ]
    return {
        "layout": layout(DATA_INTF),
        "sizes": sizes,
        "pages": pages,
        "draft_offsets": {
            name: _offsets(of) for name, of in (("published", PUBLISHED), ("A", DRAFT_A), ("B", DRAFT_B))
        },
    }


def _offsets(of: PageLayout) -> dict[str, int]:
    return {name: getattr(of, name) * 4 for name in PageLayout._fields[1:]}


def error_numbers() -> dict[str, Any]:
    """Names and numbers; those that the document's table leaves out are marked."""
    return {
        "numbers": [
            {"name": name, "number": number.value, "in_document": name not in NOT_IN_THE_DOCUMENT}
            for name, number in ErrorNumber.__members__.items()
        ]
    }


_FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "requests": requests,
    "responses": responses,
    "commands_ring": commands_ring,
    "indexes_pages": indexes_pages,
    "index_arithmetic": vector_traces.index_arithmetic,
    "data_ring": vector_traces.data_ring,
    "error_numbers": error_numbers,
    "xenstore_nodes": vector_traces.xenstore_nodes,
    "states": vector_traces.states,
    "steps": vector_traces.steps,
}


def texts() -> Iterator[tuple[str, str]]:
    """Yield each file's path, relative to the project, and its text."""
    for name, make in _FILES.items():
        content = {"protocol": "PV Calls version 1", **make()}
        yield f"{FOLDER}/{name}.json", json.dumps(content, indent=1) + "\n"


def check(root: Path) -> list[Finding]:
    """Return which files are stale or do not belong there."""
    findings = []
    for path, text in texts():
        file = root / path
        if not file.is_file():
            findings.append(Finding(path, 0, "is missing: refimpl spec vectors --write"))
        elif file.read_text(encoding="utf-8") != text:
            findings.append(Finding(path, 0, "is stale: refimpl spec vectors --write"))
    known = {Path(path).name for path, _ in texts()}
    strays: Iterable[Path] = sorted((root / FOLDER).glob("*.json"))
    findings += [Finding(f"{FOLDER}/{s.name}", 0, "is made by nothing") for s in strays if s.name not in known]
    return findings


def write(root: Path) -> list[str]:
    """Write the files that changed; return their paths."""
    changed = []
    for path, text in texts():
        file = root / path
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_whole(file, text)
            changed.append(path)
    return changed
