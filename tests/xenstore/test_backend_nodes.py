"""What a backend publishes, under both names, and what a frontend makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import PeerViolation
from refimpl.xenstore.backend_nodes import BackendNodes

PUBLISHED = {"versions": b"1", "max-page-order": b"9", "function-calls": b"1"}
DRAFT_V5 = {"version": b"1", "max-dataring-page-order": b"6"}


@pytest.mark.spec("BNODE-1", "BNODE-3", "BNODE-5", "BNODE-7")
@pytest.mark.erratum("E-VERSIONS", "E-FUNC")
def test_published_nodes_are_exactly_what_linux_compares_with() -> None:
    assert BackendNodes(9).to_nodes(draft_nodes=False) == PUBLISHED


def test_draft_nodes_stand_beside_them_unless_switched_off() -> None:
    both = BackendNodes(6).to_nodes()
    assert {name: both[name] for name in DRAFT_V5} == DRAFT_V5
    assert both["networking-calls"] == b"1"
    assert set(PUBLISHED) < set(both)


@pytest.mark.spec("BNODE-4")
@pytest.mark.parametrize("order", [0, -1, 10])
def test_an_order_that_cannot_be_is_never_published(order: int) -> None:
    with pytest.raises(ValueError, match="max-page-order"):
        BackendNodes(order).to_nodes()


@pytest.mark.parametrize("draft_nodes", [False, True])
@given(order=st.integers(1, 9))
def test_a_frontend_reads_what_a_backend_wrote(order: int, draft_nodes: bool) -> None:
    assert BackendNodes.from_nodes(BackendNodes(order).to_nodes(draft_nodes=draft_nodes)) == BackendNodes(order)


def test_a_draft_v5_backend_is_understood_without_function_calls() -> None:
    assert BackendNodes.from_nodes(DRAFT_V5) == BackendNodes(6, is_draft=True)
    assert BackendNodes.from_nodes({**DRAFT_V5, "networking-calls": b"1"}).is_draft


@pytest.mark.spec("EXPAND-2")
def test_a_set_of_commands_is_advertised_by_a_node_of_its_own() -> None:
    assert BackendNodes(9).to_nodes(draft_nodes=False)["function-calls"] == b"1"


@pytest.mark.spec("BNODE-2")
@pytest.mark.erratum("E-VERSIONS")
@pytest.mark.parametrize(
    ("versions", "served"),
    [(b"1", True), (b"1,2", True), (b"2,1", True), (b"2, 1", True), (b"1\0", True),
     (b"2", False), (b"", False), (b"10", False), (b"11,12", False), (b"\xff", False)],
)  # fmt: skip
def test_the_list_of_versions_must_have_1_in_it(versions: bytes, served: bool) -> None:
    nodes = {**PUBLISHED, "versions": versions}
    if served:
        assert BackendNodes.from_nodes(nodes) == BackendNodes(9)
    else:
        with pytest.raises(PeerViolation, match="BNODE-2: versions"):
            BackendNodes.from_nodes(nodes)


@pytest.mark.spec("BNODE-2")
def test_no_version_at_all_is_refused() -> None:
    with pytest.raises(PeerViolation, match="BNODE-2: version is None"):
        BackendNodes.from_nodes({"max-page-order": b"4", "function-calls": b"1"})


@pytest.mark.spec("BNODE-6")
@pytest.mark.erratum("E-FUNC")
@pytest.mark.parametrize("calls", [b"0", b"2", b"3"])
def test_a_backend_without_the_seven_commands_is_not_connected_to(calls: bytes) -> None:
    with pytest.raises(PeerViolation, match="BNODE-6: function-calls"):
        BackendNodes.from_nodes({**PUBLISHED, "function-calls": calls})


@pytest.mark.spec("BNODE-6")
def test_a_published_backend_must_say_what_it_calls() -> None:
    with pytest.raises(PeerViolation, match="BNODE-5: networking-calls is None"):
        BackendNodes.from_nodes({"versions": b"1", "max-page-order": b"4"})


@pytest.mark.spec("BNODE-4", "IDXPAGE-4")
@pytest.mark.erratum("E-MAXORDER")
@pytest.mark.security("SEC-F-13")
@pytest.mark.parametrize(("claimed", "believed"), [(b"1", 1), (b"9", 9), (b"10", 9), (b"4294967295", 9)])
def test_an_order_no_page_can_hold_is_cut(claimed: bytes, believed: int) -> None:
    assert BackendNodes.from_nodes({**PUBLISHED, "max-page-order": claimed}).max_page_order == believed


@pytest.mark.spec("BNODE-4")
@pytest.mark.parametrize("claimed", [b"0", None, b"-1", b"x"])
def test_an_order_of_none_is_refused(claimed: bytes | None) -> None:
    with pytest.raises(PeerViolation):
        BackendNodes.from_nodes({**PUBLISHED, "max-page-order": claimed})
