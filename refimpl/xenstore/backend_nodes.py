"""Section *Backend XenBus Nodes*: what the backend publishes before it goes to InitWait.

Published and draft-v5 names differ; a backend writes both sets at once, a frontend takes either:

    published          draft v5 and v6               meaning
    versions           version                       protocol versions spoken, comma separated
    max-page-order     max-dataring-page-order       largest data ring, log2 of pages
    function-calls     networking-calls (v6 only)    "1": the seven commands; "0": none

Spec: Xenstore > Backend XenBus Nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from refimpl.errors import PeerViolation
from refimpl.xenstore.frontend_nodes import PROTOCOL_VERSION
from refimpl.xenstore.values import parse_uint32

VERSIONS = "versions"
MAX_PAGE_ORDER = "max-page-order"
FUNCTION_CALLS = "function-calls"
DRAFT_VERSION = "version"
DRAFT_MAX_PAGE_ORDER = "max-dataring-page-order"
DRAFT_FUNCTION_CALLS = "networking-calls"

#: The names a frontend reads.
NAMES = (
    VERSIONS, MAX_PAGE_ORDER, FUNCTION_CALLS, DRAFT_VERSION, DRAFT_MAX_PAGE_ORDER, DRAFT_FUNCTION_CALLS,
)  # fmt: skip

#: The largest order whose refs fit an indexes page; what a peer claims above it is cut to it.
MAX_RING_ORDER = 9
MIN_RING_ORDER = 1

_NO_CALLS = 0
_SEVEN_COMMANDS = 1


@dataclass(frozen=True, slots=True)
class BackendNodes:
    """What a backend offers.

    ``max_page_order`` is the log2 of the pages of the largest data ring, both halves together (erratum E-MAXORDER).
    ``is_draft`` says that only draft names were found: the backend's indexes page may have a draft layout.
    """

    max_page_order: int = MAX_RING_ORDER
    is_draft: bool = False

    def to_nodes(self, *, draft_nodes: bool = True) -> dict[str, bytes]:
        """Return name and value of each node to write; ``draft_nodes`` adds the drafts' names beside them."""
        if not MIN_RING_ORDER <= self.max_page_order <= MAX_RING_ORDER:  # BNODE-4
            raise ValueError(f"max-page-order {self.max_page_order} is not from 1 to {MAX_RING_ORDER}")
        order = str(self.max_page_order).encode()
        nodes = {
            VERSIONS: PROTOCOL_VERSION.encode(),  # BNODE-1 (E-VERSIONS): Linux compares the whole string
            MAX_PAGE_ORDER: order,  # BNODE-3
            FUNCTION_CALLS: b"1",  # BNODE-5, BNODE-7, EXPAND-2 (E-FUNC)
        }
        if draft_nodes:
            nodes[DRAFT_VERSION] = PROTOCOL_VERSION.encode()
            nodes[DRAFT_MAX_PAGE_ORDER] = order
            nodes[DRAFT_FUNCTION_CALLS] = b"1"
        return nodes

    @classmethod
    def from_nodes(cls, nodes: Mapping[str, bytes | None], *, peer: int | None = None) -> Self:
        """Read what a backend published, by either set of names. Raises PeerViolation where the ends cannot talk."""
        is_draft = nodes.get(VERSIONS) is None
        _check_version(nodes, is_draft, peer)
        _check_function_calls(nodes, is_draft, peer)
        name = MAX_PAGE_ORDER if nodes.get(MAX_PAGE_ORDER) is not None else DRAFT_MAX_PAGE_ORDER
        order = parse_uint32("BNODE-3", name, nodes.get(name), peer=peer)
        if order < MIN_RING_ORDER:  # BNODE-4
            raise PeerViolation("BNODE-4", name, order, "1 or more", peer)
        return cls(max_page_order=min(order, MAX_RING_ORDER), is_draft=is_draft)  # IDXPAGE-4 (E-MAXORDER)


def _check_version(nodes: Mapping[str, bytes | None], is_draft: bool, peer: int | None) -> None:
    name = DRAFT_VERSION if is_draft else VERSIONS
    raw = (nodes.get(name) or b"").removesuffix(b"\0")
    offered = [version.strip() for version in raw.split(b",")]  # BNODE-2 (E-VERSIONS)
    if PROTOCOL_VERSION.encode() not in offered:  # BNODE-2
        found = raw[:40] if nodes.get(name) is not None else None
        raise PeerViolation("BNODE-2", name, found, f'a list with "{PROTOCOL_VERSION}" in it', peer)


def _check_function_calls(nodes: Mapping[str, bytes | None], is_draft: bool, peer: int | None) -> None:
    name = FUNCTION_CALLS if nodes.get(FUNCTION_CALLS) is not None else DRAFT_FUNCTION_CALLS
    if is_draft and nodes.get(name) is None:
        return  # Draft v5 has no such node, and serves the seven commands.
    calls = parse_uint32("BNODE-5", name, nodes.get(name), peer=peer)
    if calls != _SEVEN_COMMANDS:  # BNODE-6 (E-FUNC)
        raise PeerViolation("BNODE-6", name, calls, f'"{_SEVEN_COMMANDS}"', peer)
