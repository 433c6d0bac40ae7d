"""Nodes are replaced, never changed, and each is counted to its owner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import StoreError
from refimpl.shm.store.domains import Domains
from refimpl.shm.store.permissions import Permission
from refimpl.shm.store.quotas import Quotas
from refimpl.shm.store.tree import Node, Tree

names = st.lists(st.from_regex(rb"[a-c]{1,3}", fullmatch=True), unique=True)


def owned_by(domid):
    return (Permission(domid, 0),)


@pytest.fixture
def domains():
    return Domains(Quotas(memory_bytes=1000))


@pytest.fixture
def tree(domains):
    return Tree(domains.usage)


def test_it_starts_as_a_real_servers_does(tree, domains):
    assert len(tree) == 3
    assert tree.get(b"/").children == b"tool\0"
    assert tree.get(b"/tool").children == b"xenstored\0"
    assert tree.get(b"/tool/xenstored").value == b""
    assert domains.usage(0).nodes == 3


@given(names)
def test_children(children):
    node = Node(b"", owned_by(0), b"", 1)
    for name in children:
        node = node._replace(children=node.children_with(name))
    assert node.child_names() == children
    for name in children:
        left = [other for other in children if other != name]
        assert node._replace(children=node.children_without(name)).child_names() == left


def test_a_child_that_is_not_there_is_left_out_already():
    assert Node(b"", owned_by(0), b"ab\0", 1).children_without(b"b") == b"ab\0"


def test_no_two_writes_have_the_same_generation(tree):
    nodes = [tree.new_node(b"", owned_by(0), b"") for _ in range(5)]
    assert len({node.generation for node in nodes}) == 5


def test_what_a_node_counts():
    assert Node(b"12345", owned_by(1) * 3, b"a\0", 1).size == 24 + 3 * 8 + 5 + 2


@given(
    st.lists(st.tuples(st.sampled_from([b"/a", b"/b", b"/c"]), st.sampled_from([None, 1, 2]), st.binary(max_size=9)))
)
def test_the_owners_are_charged_with_what_is_there(writes):
    domains = Domains(Quotas())
    tree = Tree(domains.usage)
    there = {}
    for path, owner, value in writes:
        if owner is None:
            tree.remove(path)
            there.pop(path, None)
        else:
            there[path] = tree.new_node(value, owned_by(owner), b"")
            tree.put(path, there[path])
    for owner in (1, 2):
        mine = {path: node for path, node in there.items() if node.owner == owner}
        assert domains.usage(owner).nodes == len(mine)
        assert domains.usage(owner).memory_bytes == sum(len(path) + node.size for path, node in mine.items())


def test_memory_is_admitted_for_all_writes_together(tree, domains):
    half = tree.new_node(b"v" * 500, owned_by(1), b"")
    tree.admit([(b"/a", half)])
    with pytest.raises(StoreError) as refusal:
        tree.admit([(b"/a", half), (b"/b", half)])
    assert refusal.value.error_name == "ENOMEM"
    tree.put(b"/a", half)
    tree.admit([(b"/a", half)])  # it takes the other's place
    tree.admit([(b"/a", tree.new_node(b"v" * 500, owned_by(2), b""))])
