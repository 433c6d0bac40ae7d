"""Section *Frontend XenBus Nodes*: what the frontend publishes before it goes to Initialised.

A draft-v5 frontend writes no ``version``; a published one writes ``"1"``.

Spec: Xenstore > Frontend XenBus Nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from refimpl.errors import PeerViolation
from refimpl.xenstore.values import parse_uint32

#: The only protocol version there is.
PROTOCOL_VERSION = "1"  # FNODE-2

VERSION = "version"
PORT = "port"
RING_REF = "ring-ref"

#: The names a backend reads.
NAMES = (VERSION, RING_REF, PORT)


@dataclass(frozen=True, slots=True)
class FrontendNodes:
    """The frontend's nodes: ``port`` the commands ring's event channel, ``ring_ref`` the grant of its single page.

    ``version`` is None for a draft-v5 frontend.
    """

    port: int
    ring_ref: int
    version: str | None = PROTOCOL_VERSION

    def to_nodes(self) -> dict[str, bytes]:
        """Return name and value of each node to write, in the order Linux's frontend writes them."""
        nodes = {} if self.version is None else {VERSION: self.version.encode()}  # FNODE-1
        nodes[RING_REF] = str(self.ring_ref).encode()  # FNODE-4, RING-2
        nodes[PORT] = str(self.port).encode()  # FNODE-3
        return nodes

    @classmethod
    def from_nodes(cls, nodes: Mapping[str, bytes | None], *, peer: int | None = None) -> Self:
        """Read what a frontend published; a missing ``version`` is a draft peer's. Raises PeerViolation."""
        raw = nodes.get(VERSION)
        version = None if raw is None else raw.removesuffix(b"\0").decode("ascii", "replace")
        if version not in (None, PROTOCOL_VERSION):  # FNODE-2 (E-VERSION-CHECK)
            raise PeerViolation("FNODE-2", VERSION, version[:40], f'"{PROTOCOL_VERSION}"', peer)
        return cls(
            port=parse_uint32("FNODE-3", PORT, nodes.get(PORT), peer=peer),  # FNODE-3 (E-PORTNAME)
            ring_ref=parse_uint32("FNODE-4", RING_REF, nodes.get(RING_REF), peer=peer),  # FNODE-4
            version=version,
        )
