"""What a frontend publishes, and what a backend makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import PeerViolation
from refimpl.xenstore.frontend_nodes import FrontendNodes

UINT32 = st.integers(0, 2**32 - 1)


@pytest.mark.spec("FNODE-1", "FNODE-2", "FNODE-3", "FNODE-4")
def test_the_three_nodes_are_decimal_text() -> None:
    nodes = FrontendNodes(port=7, ring_ref=4000000000).to_nodes()
    assert nodes == {"version": b"1", "ring-ref": b"4000000000", "port": b"7"}


@pytest.mark.spec("FNODE-3", "FNODE-4", "RING-2")
@given(UINT32, UINT32)
def test_nodes_survive_the_way_through_xenstore(port: int, ring_ref: int) -> None:
    written = FrontendNodes(port, ring_ref)
    assert FrontendNodes.from_nodes(written.to_nodes()) == written


@pytest.mark.erratum("E-VERSION-CHECK")
def test_a_draft_frontend_writes_no_version_and_is_served() -> None:
    draft = FrontendNodes(port=7, ring_ref=8, version=None)
    assert draft.to_nodes() == {"ring-ref": b"8", "port": b"7"}
    assert FrontendNodes.from_nodes(draft.to_nodes()) == draft


@pytest.mark.spec("FNODE-2")
@pytest.mark.erratum("E-VERSION-CHECK")
@pytest.mark.parametrize("version", [b"", b"2", b"1,2", b"01", b"one", b"\xff" * 100])
def test_another_version_is_refused(version: bytes) -> None:
    nodes = {**FrontendNodes(7, 8).to_nodes(), "version": version}
    with pytest.raises(PeerViolation) as violation:
        FrontendNodes.from_nodes(nodes, peer=3)
    assert (violation.value.requirement, violation.value.field) == ("FNODE-2", "version")


@pytest.mark.spec("FNODE-3")
@pytest.mark.erratum("E-PORTNAME")
def test_the_event_channels_node_is_port_and_no_other_name() -> None:
    nodes = {"version": b"1", "ring-ref": b"8", "event-channel": b"7"}
    with pytest.raises(PeerViolation, match="FNODE-3: port is None"):
        FrontendNodes.from_nodes(nodes)


@pytest.mark.spec("FNODE-4")
def test_a_missing_ring_is_said() -> None:
    with pytest.raises(PeerViolation, match="FNODE-4: ring-ref is None"):
        FrontendNodes.from_nodes({"port": b"7"})
