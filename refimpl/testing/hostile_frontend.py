"""A frontend that can write any byte. See :mod:`refimpl.testing.hostile`.

Spec: Xenstore, Commands Ring, Indexes Page and Data ring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from refimpl.platform import PAGE_SIZE, Platform
from refimpl.testing.hostile import CONNECTED, INIT_WAIT, INITIALISED, PATIENCE, DataRing, HostilePeer
from refimpl.testing.raw import CommandsPage, IndexesPage, RawRequest, RawResponse


class HostileFrontend(HostilePeer):
    """A frontend that can write any byte. Its device's directories are there already (the toolstack made them)."""

    def __init__(self, platform: Platform, backend_id: int = 0, device_id: int = 0, patience: float = PATIENCE) -> None:
        own = f"/local/domain/{platform.domid}/device/pvcalls/{device_id}"
        others = f"/local/domain/{backend_id}/backend/pvcalls/{platform.domid}/{device_id}"
        super().__init__(platform, own, others, patience)
        self.backend_id = backend_id
        self.rings: list[DataRing] = []
        self._grant = platform.grant(backend_id, 1)
        self.ring_ref = self._grant.refs[0]
        self.commands = CommandsPage(self._grant.memory)
        self.commands.initialise()
        self.port = platform.allocate_unbound(backend_id)
        #: Private index: responses taken so far.
        self.rsp_cons = 0
        self._early: list[RawResponse] = []

    def connect(self, nodes: Mapping[str, bytes | int] | None = None) -> None:
        """Do the whole handshake, with these nodes in place of, or beside, the right ones."""
        self.await_state(INIT_WAIT)
        right: dict[str, bytes | int] = {"version": b"1", "ring-ref": self.ring_ref, "port": self.port}
        for name, value in (right | dict(nodes or {})).items():
            self.write_node(name, value)
        self.set_state(INITIALISED)
        self.await_state(CONNECTED)
        self.set_state(CONNECTED)

    def push(self, *slots: bytes, notify: bool = True) -> None:
        """Put slots where ``req_prod`` stands, move it by as many, and notify."""
        produced = self.commands["req_prod"]
        for place, raw in enumerate(slots):
            self.commands.put(produced + place, raw)
        self.platform.fences.full()
        self.commands["req_prod"] = produced + len(slots)
        self.platform.fences.full()
        if notify:
            self.notify()

    def take_responses(self) -> list[RawResponse]:
        """Take the responses that are there."""
        new = self._new_slots(self.rsp_cons, "rsp_prod")
        taken = [RawResponse(self.commands.slot(index)) for index in new]
        self.rsp_cons = (self.rsp_cons + len(new)) % 2**32
        self.commands["rsp_event"] = self.rsp_cons + 1
        self.platform.fences.full()
        return taken

    def await_responses(self, count: int) -> list[RawResponse]:
        """Wait until there are so many responses, in however many goes they come; take them."""
        self.commands["rsp_event"] = self.rsp_cons + count
        self.platform.fences.full()
        self.await_true(lambda: (self.commands["rsp_prod"] - self.rsp_cons) % 2**32 >= count, f"{count} responses")
        return self.take_responses()

    def await_response(self, req_id: int) -> RawResponse:
        """Wait for the response to one request; others are kept for whoever asks for them."""

        self.await_true(lambda: self.has_response(req_id), f"response to request {req_id}")
        found = next(r for r in self._early if r.req_id == req_id)
        self._early.remove(found)
        return found

    def has_response(self, req_id: int) -> bool:
        """Take the responses that are there; say whether the one to this request is among those nobody asked for."""
        self._early += self.take_responses()
        return any(response.req_id == req_id for response in self._early)

    def call(self, slot: bytes) -> RawResponse:
        """Push one slot and wait for the response with its req_id."""
        self.push(slot)
        return self.await_response(RawRequest(slot).req_id)

    def make_data_ring(
        self,
        order: int = 1,
        *,
        ring_order: int | None = None,
        refs: Callable[[tuple[int, ...], int], Sequence[int]] | None = None,
    ) -> DataRing:
        """Grant an indexes page and ``1 << order`` pages, and allocate a port.

        ``ring_order`` is written in place of ``order``; ``refs`` makes what is written to ref[] from the right refs and
        the indexes page's own (duplicates, wrong order, foreign numbers).
        """
        page, data = self.platform.grant(self.backend_id, 1), self.platform.grant(self.backend_id, 1 << order)
        indexes = IndexesPage(page.memory)
        written = data.refs if refs is None else refs(tuple(data.refs), page.refs[0])
        indexes.set_refs(list(written)[: (PAGE_SIZE - 132) // 4])
        indexes["ring_order"] = order if ring_order is None else ring_order
        self.platform.fences.full()
        port = self.platform.allocate_unbound(self.backend_id)
        ring = DataRing(page.refs[0], indexes, data.memory, port, (page, data))
        self.rings.append(ring)
        return ring

    def begin_again(self) -> None:
        """Make the commands ring's page, and all indexes, as new; for another connection with the same grants."""
        self.commands.memory[:] = bytes(PAGE_SIZE)
        self.commands.initialise()
        self.rsp_cons = 0
        self._early.clear()
        for ring in self.rings:
            ring.indexes.memory[:128] = bytes(128)

    def close(self) -> None:
        """Give back what was granted and allocated, with no word to the backend."""
        for ring in self.rings:
            self.platform.close_port(ring.port)
            ring.release()
        self.rings.clear()
        self.platform.close_port(self.port)
        self.commands.release()
        self._grant.end()
