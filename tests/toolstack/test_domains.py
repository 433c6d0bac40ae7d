"""A domain's own nodes, as libxl makes them."""

from __future__ import annotations

import pytest

from refimpl.errors import Misuse
from refimpl.toolstack import introduce_domain_nodes
from refimpl.toolstack.domains import delete_domain, listed_domids

#: What libxl writes of these for a guest with the number 1.
GUEST_1 = {
    "/local/domain/1": (b"", "n0,r1"),
    "/local/domain/1/name": (b"guest-1", "n0,r1"),
    "/local/domain/1/domid": (b"1", "n0,r1"),
    "/local/domain/1/device": (b"", "n0,r1"),
    "/local/domain/1/control": (b"", "n0,r1"),
    "/local/domain/1/control/shutdown": (b"", "n1"),
    "/local/domain/1/data": (b"", "n1"),
    "/local/domain/1/drivers": (b"", "n1"),
    "/local/domain/1/feature": (b"", "n1"),
    "/local/domain/1/attr": (b"", "n1"),
    "/local/domain/1/error": (b"", "n1"),
}


def test_a_guest_s_nodes(store, dump_of) -> None:
    assert {"/local/domain/1": (b"", "n0,r1"), **dump_of(store, "/local/domain/1")} == GUEST_1
    assert dump_of(store, "/libxl/1") == {"/libxl/1/device": (b"", "n0")}
    assert store.get_permissions("/libxl/1") == ["n0"]


def test_domain_0_s_nodes(store, dump_of) -> None:
    assert dump_of(store, "/local/domain/0") == {
        "/local/domain/0/name": (b"Domain-0", "n0"),
        "/local/domain/0/domid": (b"0", "n0"),
    }


def test_what_is_there_is_left_as_it_is(store, dump_of) -> None:
    store.write("/local/domain/1/data/own", b"kept")
    store.write("/local/domain/1/name", b"renamed")
    store.remove("/local/domain/1/error")
    introduce_domain_nodes(store, 1, "other")
    assert store.read("/local/domain/1/name") == b"renamed"
    assert store.read("/local/domain/1/data/own") == b"kept"
    assert store.get_permissions("/local/domain/1/error") == ["n1"]


def test_a_name_of_one_s_choice(store) -> None:
    introduce_domain_nodes(store, 3, "web")
    assert store.read("/local/domain/3/name") == b"web"


@pytest.mark.parametrize("domid", [-1, 0x7FF0, 2**32])
def test_numbers_no_domain_has(store, domid: int) -> None:
    with pytest.raises(Misuse):
        introduce_domain_nodes(store, domid)


def test_which_numbers_are_listed(store) -> None:
    introduce_domain_nodes(store, 7)
    store.write("/local/domain/guest", b"")
    assert listed_domids(store) == [0, 1, 2, 7]
    store.remove("/local/domain")
    assert listed_domids(store) == []


def test_nothing_is_left_of_a_deleted_one(store, dump_of) -> None:
    delete_domain(store, 1)
    delete_domain(store, 1)
    assert not [path for path in dump_of(store) if "/1" in path]
