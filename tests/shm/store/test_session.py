"""One client without a socket: errors become replies, exactly one each, and its end leaves nothing behind."""

from __future__ import annotations

import logging

import pytest

from refimpl.shm.store import session as session_module
from refimpl.shm.store.quotas import Quotas
from refimpl.store.wire import OK, PAYLOAD_MAX, Operation, strings


@pytest.fixture
def client(database, speak):
    return speak(database)


def test_ids_are_echoed_also_in_errors(client):
    tx_id = client.begin()
    client._last_req_id = 0xFFFFFFF0
    assert client.request(Operation.READ, b"/tool\0", tx_id)[:3] == (Operation.READ, 0xFFFFFFF1, tx_id)
    assert client.request(Operation.READ, b"/not\0", tx_id)[:3] == (Operation.ERROR, 0xFFFFFFF2, tx_id)
    assert client.request(99, b"", 77)[:3] == (Operation.ERROR, 0xFFFFFFF3, 77)


@pytest.mark.parametrize(
    "operation", [Operation.CONTROL, Operation.GET_FEATURE, Operation.SET_QUOTA, 27, 0xFFFF, 2**32 - 1]
)
def test_operations_we_do_not_have(client, operation):
    assert client.request(operation, b"help\0").error == "ENOSYS"


def test_a_fault_of_ours_is_answered_and_written_down(client, monkeypatch, caplog):
    def fail(request):
        raise RuntimeError("a fault of ours")

    monkeypatch.setitem(session_module.HANDLERS, Operation.READ, fail)
    with caplog.at_level(logging.ERROR):
        assert client.request(Operation.READ, b"/tool\0").error == "EIO"
    assert "a fault of ours" in caplog.text
    assert client.request(Operation.DIRECTORY, b"/\0").payload == b"tool\0"


@pytest.mark.parametrize("names", [1, 2])
def test_events_too_long_for_a_message_are_left_out(client, names):
    token = b"t" * (PAYLOAD_MAX - len(b"/a\0\0"))
    assert client.request(Operation.WATCH, strings(b"/a", token)).payload == OK
    assert len(client.take_events()) == 1
    client.request(Operation.WRITE, strings(b"/a/b" if names == 2 else b"/a"))
    assert len(client.take_events()) == 2 - names


def test_hanging_up_leaves_nothing(database, speak):
    guest = speak(database, 1)
    usage = database.domains.usage(1)
    for path in (b"a", b"b", b"@releaseDomain"):
        guest.request(Operation.WATCH, strings(path, b"t"))
    guest.begin()
    assert (usage.watches, usage.transactions, usage.memory_bytes > 0) == (3, 1, True)
    guest.send(Operation.READ, b"a\0")
    assert usage.outstanding
    guest.close()
    assert (usage.watches, usage.transactions, usage.memory_bytes, usage.outstanding) == (0, 0, 0, 0)
    assert database.domains.get(1).sessions == set()
    assert database.watches._by_path == {}


def test_attention_is_called_for_events_that_others_cause(database, speak, client):
    watcher = speak(database)
    watcher.request(Operation.WATCH, b"/t\0t\0")
    watcher.take_events()
    called = []
    watcher.stream.session.attention = lambda: called.append(True)
    client.request(Operation.WRITE, b"/u\0")
    assert not called
    client.request(Operation.WRITE, b"/t\0")
    assert called


def test_watches_of_all_clients_of_a_domain_count_together(new_database, speak):
    database = new_database(Quotas(watches=3))
    one, two = speak(database, 1), speak(database, 1)
    assert [client.request(Operation.WATCH, b"a\0t\0").payload for client in (one, two)] == [OK, OK]
    assert [one.request(Operation.WATCH, b"%d\0t\0" % n).payload for n in range(3)] == [OK, OK, b"E2BIG\0"]
    two.close()
    assert one.request(Operation.WATCH, b"x\0t\0").payload == OK


def test_the_memory_of_watches(new_database, speak):
    database = new_database(Quotas(memory_bytes=5000))
    guest = speak(database, 1)
    assert guest.request(Operation.WATCH, b"a\0" + b"t" * 4000 + b"\0").payload == OK
    assert guest.request(Operation.WATCH, b"b\0" + b"t" * 4000 + b"\0").error == "ENOMEM"
    assert guest.request(Operation.UNWATCH, b"a\0" + b"t" * 4000 + b"\0").payload == OK
    assert database.domains.usage(1).memory_bytes == 0


# The lesson of XSA-326.
def test_a_request_counts_until_those_who_watch_have_been_sent_its_events(database, speak, client):
    guest, usage = speak(database, 1), database.domains.usage(1)
    client.request(Operation.WRITE, b"/local/domain/1\0")
    client.request(Operation.SET_PERMS, b"/local/domain/1\0n1\0")
    client.request(Operation.WATCH, b"/local/domain/1\0t\0")
    client.take_events()
    for number in range(5):
        guest.request(Operation.WRITE, b"%d\0v" % number)
    assert usage.outstanding == 5
    client.take_events()
    assert usage.outstanding == 0


def test_thousands_of_watches_of_domain_0(client):
    for number in range(3000):
        assert client.request(Operation.WATCH, strings(b"/t/%d" % number, b"t")).payload == OK
    assert len(client.take_events()) == 3000
    client.request(Operation.WRITE, b"/t/77/x\0v")
    assert client.take_events() == [(b"/t/77/x", b"t")]
    client.request(Operation.RM, b"/t\0")
    assert client.take_events() == [(b"/t/77", b"t")]
