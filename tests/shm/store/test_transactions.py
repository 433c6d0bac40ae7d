"""Transactions: isolation, conflicts, what they may use, and that nothing of them is left.

What real servers answer is in oracle.txt; here stands what no reply shows.
"""

from __future__ import annotations

import pytest

from refimpl.shm.store.quotas import Quotas
from refimpl.store.wire import OK, Operation, strings


@pytest.fixture
def clients(database, speak):
    return speak(database), speak(database)


def write(client, path, value=b"v", tx_id=0):
    return client.request(Operation.WRITE, path + b"\0" + value, tx_id)


def read(client, path, tx_id=0):
    reply = client.request(Operation.READ, path + b"\0", tx_id)
    return reply.error or reply.payload


def test_two_that_each_read_what_the_other_writes(clients):
    one, two = clients
    write(one, b"/a", b"0")
    write(one, b"/b", b"0")
    first, second = one.begin(), two.begin()
    assert read(one, b"/a", first) == b"0"
    assert read(two, b"/b", second) == b"0"
    write(one, b"/b", b"1", first)
    write(two, b"/a", b"2", second)
    assert one.end(first).payload == OK
    assert two.end(second).error == "EAGAIN"
    assert (read(one, b"/a"), read(one, b"/b")) == (b"0", b"1")


def test_two_on_different_nodes_both_commit(clients):
    one, two = clients
    write(one, b"/a")
    write(one, b"/b")
    first, second = one.begin(), two.begin()
    write(one, b"/a", b"1", first)
    write(two, b"/b", b"2", second)
    assert two.end(second).payload == OK
    assert one.end(first).payload == OK


def test_a_counter_that_both_raise_loses_no_count(clients):
    for client in (*clients, *clients) * 5:
        other = clients[1] if client is clients[0] else clients[0]
        tx_id = client.begin()
        value = read(client, b"/count", tx_id)
        write(client, b"/count", b"%d" % (int(value) + 1 if value != "ENOENT" else 1), tx_id)
        meanwhile = other.begin()
        assert read(other, b"/count", meanwhile) in (value, "ENOENT")
        assert client.end(tx_id).payload == OK
        write(other, b"/count", b"lost", meanwhile)
        assert other.end(meanwhile).error == "EAGAIN"
    assert read(clients[0], b"/count") == b"20"


def test_an_older_parent_than_child_cannot_be_committed(clients):
    one, two = clients
    write(one, b"/t")
    tx_id = one.begin()
    one.request(Operation.DIRECTORY, b"/t\0", tx_id)
    write(two, b"/t/new")
    assert one.request(Operation.RM, b"/t/new\0", tx_id).payload == OK
    assert one.end(tx_id).error == "EAGAIN"
    assert read(two, b"/t/new") == b"v"


def test_a_child_whose_parent_was_not_there(clients):
    one, two = clients
    tx_id = one.begin()
    assert read(one, b"/t", tx_id) == "ENOENT"
    write(two, b"/t/new")
    assert one.request(Operation.RM, b"/t/new\0", tx_id).payload == OK
    assert one.end(tx_id).error == "EAGAIN"
    assert read(two, b"/t/new") == b"v"


def test_ids_are_the_clients_own_and_not_in_use(clients):
    one, two = clients
    ids = [one.begin() for _ in range(5)]
    assert len(set(ids)) == 5
    assert 0 not in ids
    assert read(two, b"/tool", ids[0]) == "ENOENT"
    for tx_id in ids:
        assert one.end(tx_id, commit=False).payload == OK


def test_ids_wrap_past_0_and_past_those_in_use(database, clients):
    one, _ = clients
    first = one.begin()
    assert first == 1
    one.stream.session._last_tx_id = 2**32 - 2
    assert one.begin() == 2**32 - 1
    assert one.begin() == 2


@pytest.mark.parametrize("end", ["commit", "drop", "conflict", "reset", "hang up"])
def test_nothing_of_it_is_left_in_the_usage(database, speak, end):
    toolstack, guest = speak(database), speak(database, 1)
    toolstack.request(Operation.WRITE, b"/local/domain/1\0")
    toolstack.request(Operation.SET_PERMS, b"/local/domain/1\0n1\0")
    usage = database.domains.usage(1)
    before = usage.memory_bytes
    tx_id = guest.begin()
    for value in (b"v" * 900, b"v" * 100, b"v" * 500):
        write(guest, b"a", value, tx_id)
    assert usage.transactions == 1
    assert before + 500 < usage.memory_bytes < before + 1000
    if end == "commit":
        assert guest.end(tx_id).payload == OK
        guest.request(Operation.RM, b"a\0")
    elif end == "drop":
        guest.end(tx_id, commit=False)
    elif end == "conflict":
        toolstack.request(Operation.WRITE, b"/local/domain/1\0x")
        assert guest.end(tx_id).error == "EAGAIN"
        toolstack.request(Operation.WRITE, b"/local/domain/1\0")
    elif end == "reset":
        guest.request(Operation.RESET_WATCHES, b"\0")
    else:
        guest.close()
    assert usage.transactions == 0
    assert usage.memory_bytes == before


def test_what_it_changes_counts_before_the_commit(new_database, speak):
    database = new_database(Quotas(memory_bytes=3000))
    toolstack, guest = speak(database), speak(database, 1)
    toolstack.request(Operation.WRITE, b"/local/domain/1\0")
    toolstack.request(Operation.SET_PERMS, b"/local/domain/1\0n1\0")
    tx_id = guest.begin()
    assert write(guest, b"a", b"v" * 1900, tx_id).error is None
    assert write(guest, b"a", b"w" * 1900, tx_id).error is None  # in place of the other
    assert write(guest, b"b", b"v" * 1900, tx_id).error == "ENOMEM"
    assert guest.end(tx_id).error == "ENOMEM"
    assert read(guest, b"a") == "ENOENT"


# The lesson of XSA-484.
def test_reset_inside_a_transaction_ends_it(database, speak):
    client = speak(database)
    tx_id = client.begin()
    assert client.request(Operation.RESET_WATCHES, b"\0", tx_id).payload == OK
    assert client.end(tx_id).error == "ENOENT"
    assert database.domains.usage(0).transactions == 0


def test_looking_at_full_owners_is_no_growth(new_database, speak):
    database = new_database(Quotas(nodes=3))
    toolstack, guest, full = speak(database), speak(database, 1), speak(database, 2)
    for path in (b"/1", b"/2"):
        toolstack.request(Operation.WRITE, strings(path))
        toolstack.request(Operation.SET_PERMS, strings(path, b"r" + path[1:]))
    write(full, b"/2/a")
    write(full, b"/2/b")
    tx_id = guest.begin()
    assert read(guest, b"/2/a", tx_id) == b"v"
    write(guest, b"/1/a", tx_id=tx_id)
    assert guest.end(tx_id).payload == OK
