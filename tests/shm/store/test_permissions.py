"""Who may do what: the first entry that names the client decides, and else what all others may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import StoreError
from refimpl.shm.store import permissions as rights
from refimpl.shm.store.permissions import NONE, OWNER, READ, WRITE, Permission

domids = st.integers(0, 5)
lists = st.lists(st.builds(Permission, domids, st.sampled_from([NONE, READ, WRITE, READ | WRITE])), min_size=1).map(
    tuple
)


def perms(*texts):
    return rights.parse([text.encode() for text in texts])


def test_parse_and_back():
    assert rights.to_strings(perms("n1", "r0", "w22", "b333")) == b"n1\0r0\0w22\0b333\0"


@given(lists)
def test_any_list_survives_the_wire(entries):
    assert rights.parse(rights.to_strings(entries).split(b"\0")[:-1]) == entries


@pytest.mark.parametrize(
    "texts",
    [[], [b""], [b"n"], [b"9"], [b"x1"], [b"n1", b""], [b"n-1"], [b"n 1"], [b"n1_0"], [b"n\xb2"], [b"nn1"], [b"n1\n"]],
)
def test_what_is_no_permission(texts):
    with pytest.raises(StoreError) as refusal:
        rights.parse(texts)
    assert refusal.value.error_name == "EINVAL"


@pytest.mark.parametrize(
    ("texts", "domid", "access"),
    [
        (["n1"], 0, READ | WRITE | OWNER),
        (["n1"], 1, READ | WRITE | OWNER),
        (["n1"], 2, NONE),
        (["r1"], 2, READ),
        (["b1"], 2, READ | WRITE),
        (["n1", "w2"], 2, WRITE),
        (["b1", "n2"], 2, NONE),
        (["b1", "n2"], 3, READ | WRITE),
        (["n1", "r2", "w2"], 2, READ),
    ],
)
def test_access(texts, domid, access):
    assert rights.access_of((domid,), perms(*texts)) == access


def test_a_target_lends_its_rights():
    assert rights.access_of((2, 1), perms("n1")) == READ | WRITE | OWNER
    assert rights.access_of((2, 3), perms("n1", "r3")) == READ
    assert rights.access_of((2, 0), perms("n1")) == NONE  # acting for domain 0 is not being it


def test_what_an_unprivileged_domain_creates_is_its_own():
    assert rights.inherited(perms("r1", "w2"), 5) == perms("r5", "w2")
    assert rights.inherited(perms("r1", "w2"), 0) == perms("r1", "w2")


@given(lists, domids.filter(bool))
def test_nothing_is_left_of_a_domain(entries, domid):
    left = rights.without(entries, domid)
    assert all(entry.domid != domid for entry in left)
    for other in set(range(6)) - {domid}:
        assert rights.access_of((other,), left) == rights.access_of((other,), entries)


def test_what_a_dead_domain_owned_falls_to_domain_0():
    assert rights.without(perms("r7", "w7", "b2"), 7) == perms("r0", "b2")
