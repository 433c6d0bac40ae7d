"""The protocol's shared pages as raw bytes, by this module's own offsets.

Written a second time on purpose: the tests' hostile peers, and whoever wants a second opinion, must not share the
layouts, checks or index arithmetic of the code under test. Nothing here checks anything: any word takes any value.

Spec: Commands Ring; Indexes Page and Data ring (offsets as in the C header).
"""

from __future__ import annotations

import struct

SLOTS = 32
SLOT_SIZE = 64
FIRST_SLOT = 64
COMMANDS_WORDS = {"req_prod": 0, "req_event": 4, "rsp_prod": 8, "rsp_event": 12}
INDEXES_WORDS = {
    "in_cons": 0,
    "in_prod": 4,
    "in_error": 8,
    "out_cons": 64,
    "out_prod": 68,
    "out_error": 72,
    "ring_order": 128,
}
FIRST_REF = 132
SOCKET, CONNECT, RELEASE, BIND, LISTEN, ACCEPT, POLL = range(7)


def request(cmd: int, req_id: int, body: bytes = b"") -> bytes:
    """Make a 64-byte slot of any command; ``body`` is what follows cmd, at offset 8."""
    return struct.pack("<II", req_id, cmd) + body.ljust(56, b"\0")


def socket_request(req_id: int, id: int, domain: int = 2, type: int = 1, protocol: int = 0) -> bytes:
    """SOCKET."""
    return request(SOCKET, req_id, struct.pack("<QIII", id, domain, type, protocol))


def connect_request(
    req_id: int, id: int, addr: bytes, ref: int, evtchn: int, length: int = 16, flags: int = 0
) -> bytes:
    """CONNECT; ``length`` is the field ``len``."""
    return request(CONNECT, req_id, struct.pack("<Q28sIIII", id, addr, length, flags, ref, evtchn))


def release_request(req_id: int, id: int, reuse: int = 0) -> bytes:
    """RELEASE."""
    return request(RELEASE, req_id, struct.pack("<QB", id, reuse))


def bind_request(req_id: int, id: int, addr: bytes, length: int = 16) -> bytes:
    """BIND; ``length`` is the field ``len``."""
    return request(BIND, req_id, struct.pack("<Q28sI", id, addr, length))


def listen_request(req_id: int, id: int, backlog: int = 1) -> bytes:
    """LISTEN."""
    return request(LISTEN, req_id, struct.pack("<QI", id, backlog))


def accept_request(req_id: int, id: int, id_new: int, ref: int, evtchn: int) -> bytes:
    """ACCEPT."""
    return request(ACCEPT, req_id, struct.pack("<QQII", id, id_new, ref, evtchn))


def poll_request(req_id: int, id: int) -> bytes:
    """POLL."""
    return request(POLL, req_id, struct.pack("<Q", id))


def address(host: str, port: int, family: int = 2) -> bytes:
    """Make the 28 bytes of ``addr``: family as the guest writes it, port and IPv4 address in network order."""
    numbers = bytes(int(part) for part in host.split("."))
    return struct.pack("<H", family) + struct.pack(">H", port) + numbers + bytes(20)


def response(req_id: int, cmd: int, ret: int, id: int = 0, pad: int = 0) -> bytes:
    """Make the 24 bytes of a response."""
    return struct.pack("<IIiIQ", req_id & 0xFFFFFFFF, cmd & 0xFFFFFFFF, ret, pad, id)


class RawResponse:
    """What 24 bytes say: ``req_id``, ``cmd``, ``ret`` (signed), ``pad``, ``id``, and the whole slot as ``raw``."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.req_id, self.cmd, self.ret, self.pad, self.id = struct.unpack_from("<IIiIQ", raw)

    def __repr__(self) -> str:
        return f"RawResponse(req_id={self.req_id}, cmd={self.cmd}, ret={self.ret}, pad={self.pad}, id={self.id})"


class RawRequest:
    """What 64 bytes say: ``req_id``, ``cmd``, ``id``; a data ring's ``ref`` and ``evtchn``; the slot as ``raw``."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.req_id, self.cmd, self.id = struct.unpack_from("<IIQ", raw)
        self.ref, self.evtchn = struct.unpack_from("<II", raw, 24 if self.cmd == ACCEPT else 52)

    def __repr__(self) -> str:
        return f"RawRequest(req_id={self.req_id}, cmd={self.cmd}, id={self.id}, raw={self.raw.hex()})"


class RawPage:
    """A shared page whose 32-bit words have names; ``page[name]`` is one aligned access, unsigned."""

    def __init__(self, memory: memoryview, words: dict[str, int]) -> None:
        self.memory = memory
        self._offsets = words
        self._words = memory.cast("I")

    def __getitem__(self, name: str) -> int:
        return self._words[self._offsets[name] // 4]

    def __setitem__(self, name: str, value: int) -> None:
        self._words[self._offsets[name] // 4] = value & 0xFFFFFFFF

    def word(self, offset: int) -> int:
        """Read the 32-bit word at a byte offset."""
        return self._words[offset // 4]

    def set_word(self, offset: int, value: int) -> None:
        """Write the 32-bit word at a byte offset."""
        self._words[offset // 4] = value & 0xFFFFFFFF

    def __str__(self) -> str:
        return " ".join(f"{name}={self[name]:#x}" for name in self._offsets)

    def release(self) -> None:
        """Let go of the memory, so that the page can be ended or unmapped."""
        self._words.release()


class CommandsPage(RawPage):
    """The commands ring's page: four indexes and 32 slots."""

    def __init__(self, memory: memoryview) -> None:
        super().__init__(memory, COMMANDS_WORDS)

    def initialise(self) -> None:
        """Write what a new ring holds: producers 0, events 1."""
        for name in COMMANDS_WORDS:
            self[name] = 1 if name.endswith("event") else 0

    def slot(self, index: int) -> bytes:
        """Copy the slot of a free-running index."""
        first = FIRST_SLOT + index % SLOTS * SLOT_SIZE
        return bytes(self.memory[first : first + SLOT_SIZE])

    def put(self, index: int, raw: bytes) -> None:
        """Write bytes into the slot of a free-running index; the rest of the slot stays."""
        first = FIRST_SLOT + index % SLOTS * SLOT_SIZE
        self.memory[first : first + len(raw)] = raw


class IndexesPage(RawPage):
    """A data ring's indexes page."""

    def __init__(self, memory: memoryview) -> None:
        super().__init__(memory, INDEXES_WORDS)

    def error(self, name: str) -> int:
        """Read ``in_error`` or ``out_error``, signed."""
        value = self[name]
        return value - 2**32 if value >= 2**31 else value

    def refs(self, count: int) -> list[int]:
        """Read the first ``count`` words of ref[]."""
        return [self.word(FIRST_REF + 4 * place) for place in range(count)]

    def set_refs(self, refs: tuple[int, ...] | list[int]) -> None:
        """Write ref[] from its start."""
        for place, ref in enumerate(refs):
            self.set_word(FIRST_REF + 4 * place, ref)
