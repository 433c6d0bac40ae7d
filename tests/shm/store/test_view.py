"""The rules of changing the tree, where a real server was not asked: all or nothing, and what is told to whom."""

from __future__ import annotations

import pytest

from refimpl.errors import StoreError
from refimpl.shm.store import permissions as rights
from refimpl.shm.store.quotas import Quotas
from refimpl.shm.store.view import DirectView


def view_of(database, domid=0):
    return DirectView(database, database.domains.get(domid))


def everything(database):
    return dict(database.tree._nodes)


def refusal(action, *args):
    with pytest.raises(StoreError) as refused:
        action(*args)
    return refused.value.error_name


@pytest.fixture
def guest(database):
    toolstack = view_of(database)
    toolstack.write(b"/local/domain/1", b"")
    toolstack.set_permissions(b"/local/domain/1", rights.parse([b"n1"]))
    return view_of(database, 1)


@pytest.mark.parametrize(
    ("quotas", "path", "value", "error"),
    [
        (Quotas(nodes=3), b"/local/domain/1/a/b/c", b"v", "ENOSPC"),
        (Quotas(), b"/local/domain/1/a/b/c", b"v" * 2048, "ENOSPC"),
        (Quotas(memory_bytes=300), b"/local/domain/1/a/b/c", b"v" * 200, "ENOMEM"),
        (Quotas(memory_bytes=300), b"/local/domain/1", b"v" * 300, "ENOMEM"),
    ],
)
def test_what_a_quota_refuses_changes_nothing(new_database, quotas, path, value, error):
    database = new_database(quotas)
    toolstack = view_of(database)
    toolstack.write(b"/local/domain/1", b"")
    toolstack.set_permissions(b"/local/domain/1", rights.parse([b"n1"]))
    before, used = everything(database), database.domains.usage(1).memory_bytes
    assert refusal(view_of(database, 1).write, path, value) == error
    assert everything(database) == before
    assert database.domains.usage(1).memory_bytes == used


def test_the_owner_pays_also_for_what_domain_0_writes(new_database):
    database = new_database(Quotas(memory_bytes=300))
    toolstack = view_of(database)
    toolstack.write(b"/a", b"")
    toolstack.set_permissions(b"/a", rights.parse([b"n1"]))
    assert refusal(toolstack.write, b"/a", b"v" * 300) == "ENOMEM"
    toolstack.write(b"/b", b"v" * 300)
    assert refusal(toolstack.set_permissions, b"/b", rights.parse([b"n1"])) == "ENOMEM"


def test_a_guest_over_its_memory_may_still_write_less(new_database):
    database = new_database(Quotas(memory_bytes=300))
    toolstack = view_of(database)
    toolstack.write(b"/a", b"v" * 200)
    toolstack.set_permissions(b"/a", rights.parse([b"n1"]))
    view_of(database, 1).write(b"/a", b"v")
    view_of(database, 1).remove_tree(b"/a")
    assert database.domains.usage(1).memory_bytes == 0


def test_a_held_node_is_not_changed_by_a_write(database, guest):
    guest.write(b"/local/domain/1/a", b"old")
    held = guest.get(b"/local/domain/1/a")
    guest.write(b"/local/domain/1/a", b"new")
    guest.remove_tree(b"/local/domain/1/a")
    assert held.value == b"old"


def test_nothing_is_left_of_a_removed_tree(database, guest):
    before, used = everything(database), database.domains.usage(1).nodes
    for path in (b"a", b"a/b", b"a/c/d/e", b"a/c/f"):
        guest.write(b"/local/domain/1/" + path, b"v")
    guest.remove_tree(b"/local/domain/1/a")
    assert everything(database).keys() == before.keys()
    assert guest.get(b"/local/domain/1").children == b""
    assert database.domains.usage(1).nodes == used


def test_thousands_of_children(database):
    toolstack = view_of(database)
    for number in range(3000):
        toolstack.write(b"/many/%d" % number, b"")
    assert len(toolstack.get(b"/many").child_names()) == 3000
    toolstack.remove_tree(b"/many")
    assert len(database.tree) == 3


# The lesson of XSA-115.
def test_missing_and_forbidden_look_the_same(database, guest):
    view_of(database).write(b"/secret/there", b"v")
    for path in (b"/secret/there", b"/secret/not", b"/not", b"/secret/there/not"):
        for access in (rights.READ, rights.WRITE, rights.WRITE | rights.OWNER):
            assert refusal(guest.find, path, access) == "EACCES"
