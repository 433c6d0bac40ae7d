"""A backend that can write any byte. See :mod:`refimpl.testing.hostile`.

Spec: Xenstore, Commands Ring, Indexes Page and Data ring.
"""

from __future__ import annotations

from collections.abc import Mapping

from refimpl.platform import MappedPages, Platform
from refimpl.testing.hostile import CONNECTED, INIT_WAIT, INITIALISED, PATIENCE, DataRing, HostilePeer
from refimpl.testing.raw import CommandsPage, IndexesPage, RawRequest, response


class HostileBackend(HostilePeer):
    """A backend that can write any byte. Its device's directories are there already (the toolstack made them)."""

    def __init__(self, platform: Platform, frontend_id: int, device_id: int = 0, patience: float = PATIENCE) -> None:
        own = f"/local/domain/{platform.domid}/backend/pvcalls/{frontend_id}/{device_id}"
        others = f"/local/domain/{frontend_id}/device/pvcalls/{device_id}"
        super().__init__(platform, own, others, patience)
        self.frontend_id = frontend_id
        self.rings: list[DataRing] = []
        self._mapped: MappedPages | None = None
        #: Private index: requests taken so far.
        self.req_cons = 0

    def publish(self, nodes: Mapping[str, bytes | int] | None = None) -> None:
        """Write our nodes, these in place of, or beside, the right ones, and go to InitWait."""
        right: dict[str, bytes | int] = {"versions": b"1", "max-page-order": 9, "function-calls": 1}
        for name, value in (right | dict(nodes or {})).items():
            self.write_node(name, value)
        self.set_state(INIT_WAIT)

    def connect(self) -> None:
        """Wait for the frontend's nodes, map its page, bind its port and go to Connected."""
        self.await_state(INITIALISED)
        ref, port = int(self.other_node("ring-ref") or b"0"), int(self.other_node("port") or b"0")
        self.port = self.platform.bind(self.frontend_id, port)
        try:
            self._mapped = self.platform.map(self.frontend_id, [ref])
        except BaseException:
            self.platform.close_port(self.port)
            raise
        self.commands = CommandsPage(self._mapped.memory)
        self.set_state(CONNECTED)

    def take_requests(self) -> list[RawRequest]:
        """Take the requests that are there."""
        new = self._new_slots(self.req_cons, "req_prod")
        taken = [RawRequest(self.commands.slot(index)) for index in new]
        self.req_cons = (self.req_cons + len(new)) % 2**32
        self.commands["req_event"] = self.req_cons + 1
        self.platform.fences.full()
        return taken

    def await_request(self) -> RawRequest:
        """Wait for the next request and take it."""
        self.await_true(lambda: self.req_cons != self.commands["req_prod"], "request")
        taken = RawRequest(self.commands.slot(self.req_cons))
        self.req_cons = (self.req_cons + 1) % 2**32
        self.commands["req_event"] = self.req_cons + 1
        self.platform.fences.full()
        return taken

    def respond(self, *responses: bytes, notify: bool = True) -> None:
        """Put raw responses where ``rsp_prod`` stands, move it by as many, and notify."""
        produced = self.commands["rsp_prod"]
        for place, raw in enumerate(responses):
            self.commands.put(produced + place, raw)
        self.platform.fences.full()
        self.commands["rsp_prod"] = produced + len(responses)
        self.platform.fences.full()
        if notify:
            self.notify()

    def answer(self, asked: RawRequest, ret: int = 0, **other: int) -> None:
        """Respond to a request, with any field (``req_id``, ``cmd``, ``id``, ``pad``) other than it should be."""
        fields = {"req_id": asked.req_id, "cmd": asked.cmd, "ret": ret, "id": asked.id} | other
        self.respond(response(**fields))

    def map_data_ring(self, asked: RawRequest, order: int | None = None) -> DataRing:
        """Map the indexes page and the pages that a CONNECT or an ACCEPT names, and bind its port.

        A ring that comes again is let go of first: its RELEASE was answered.
        """
        for former in [ring for ring in self.rings if ring.ref == asked.ref]:
            self.let_go(former)
        page = self.platform.map(self.frontend_id, [asked.ref])
        indexes = IndexesPage(page.memory)
        refs = indexes.refs(1 << (indexes["ring_order"] if order is None else order))
        data = self.platform.map(self.frontend_id, refs)
        port = self.platform.bind(self.frontend_id, asked.evtchn)
        ring = DataRing(asked.ref, indexes, data.memory, port, (data, page))
        self.rings.append(ring)
        return ring

    def let_go(self, ring: DataRing) -> None:
        """Unbind a ring's port and unmap its pages."""
        self.rings.remove(ring)
        self.platform.close_port(ring.port)
        ring.release()

    def close(self) -> None:
        """Give back what was mapped and bound, with no word to the frontend."""
        for ring in list(self.rings):
            self.let_go(ring)
        if self._mapped is not None:
            self.platform.close_port(self.port)
            self.commands.release()
            self._mapped.unmap()
            self._mapped = None
