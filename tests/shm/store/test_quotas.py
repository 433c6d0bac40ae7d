"""Each limit, at its edge, and that the privileged domain has none."""

from __future__ import annotations

import pytest

from refimpl.errors import StoreError
from refimpl.shm.store.quotas import Quotas, Usage

SMALL = Quotas(
    nodes=3, watches=3, transactions=3, transaction_nodes=3, permissions=3, node_bytes=3, memory_bytes=3, outstanding=3
)


def refusal(action, *args):
    with pytest.raises(StoreError) as refused:
        action(*args)
    return refused.value.error_name


def guest(**used):
    usage = Usage(SMALL, limited=True)
    for name, value in used.items():
        setattr(usage, name, value)
    return usage


def test_nodes():
    guest(nodes=1).admit_nodes(2)
    assert refusal(guest(nodes=1).admit_nodes, 3) == "ENOSPC"


def test_the_size_of_a_node():
    guest().admit_node_size(2)
    assert refusal(guest().admit_node_size, 3) == "ENOSPC"


def test_memory_may_always_shrink():
    guest(memory_bytes=1).admit_memory(1)
    assert refusal(guest(memory_bytes=1).admit_memory, 2) == "ENOMEM"
    guest(memory_bytes=100).admit_memory(0)
    guest(memory_bytes=100).admit_memory(-1)


def test_permissions():
    guest().admit_permissions(3)
    assert refusal(guest().admit_permissions, 4) == "ENOSPC"


def test_watches_go_one_above():
    guest(watches=3).admit_watch()
    assert refusal(guest(watches=4).admit_watch) == "E2BIG"


def test_transactions_go_one_above():
    guest(transactions=3).admit_transaction()
    assert refusal(guest(transactions=4).admit_transaction) == "ENOSPC"


def test_nodes_of_a_transaction():
    guest().admit_transaction_node(2)
    assert refusal(guest().admit_transaction_node, 3) == "ENOSPC"


def test_requests_that_have_not_left():
    assert guest(outstanding=2).may_ask
    assert not guest(outstanding=3).may_ask


def test_the_privileged_domain_has_no_limits():
    usage = Usage(SMALL, limited=False)
    for name in ("nodes", "watches", "transactions", "memory_bytes", "outstanding"):
        setattr(usage, name, 1000)
    usage.admit_nodes(1000)
    usage.admit_node_size(1000)
    usage.admit_memory(1000)
    usage.admit_permissions(1000)
    usage.admit_watch()
    usage.admit_transaction()
    usage.admit_transaction_node(1000)
    assert usage.may_ask
