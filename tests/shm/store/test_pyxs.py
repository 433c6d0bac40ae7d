"""pyxs, as it is on PyPI, is a client of our server: its Client, transactions, and Monitor."""

from __future__ import annotations

import copy
import errno
import threading

import pytest
import pyxs


@pytest.fixture
def pyxs_client(store):
    """Return ``pyxs_client(domid=0)``: pyxs speaking as the domain."""
    opened = []

    def pyxs_client(domid=0):
        client = pyxs.Client(unix_socket_path=store.identity(domid))
        client.connect()
        opened.append(client)
        return client

    yield pyxs_client
    for client in opened:
        client.close()


def test_nodes(pyxs_client):
    client = pyxs_client()
    client.write(b"/t/a", b"one")
    client.mkdir(b"/t/b")
    assert client.read(b"/t/a") == b"one"
    assert client.read(b"/t/none", b"default") == b"default"
    assert client.list(b"/t") == [b"a", b"b"]
    assert client.exists(b"/t/a")
    assert not client.exists(b"/t/none")
    assert [path for path, *_ in client.walk(b"/t")] == [b"/t", b"/t/a", b"/t/b"]
    client.delete(b"/t")
    with pytest.raises(pyxs.PyXSError) as refused:
        client.read(b"/t/a")
    assert refused.value.args[0] == errno.ENOENT


def test_permissions_of_two_identities(pyxs_client):
    toolstack, guest = pyxs_client(), pyxs_client(1)
    toolstack.write(b"/local/domain/1/x", b"v")
    with pytest.raises(pyxs.PyXSError) as refused:
        guest.read(b"/local/domain/1/x")
    assert refused.value.args[0] == errno.EACCES
    toolstack.set_perms(b"/local/domain/1/x", [b"n0", b"r1"])
    assert toolstack.get_perms(b"/local/domain/1/x") == [b"n0", b"r1"]
    assert guest.read(b"/local/domain/1/x") == b"v"


def test_domains(pyxs_client, monkeypatch):
    monkeypatch.setattr(pyxs.Client, "SU", True)  # pyxs itself asks for root and a Xen kernel
    client = pyxs_client()
    assert client.get_domain_path(7) == b"/local/domain/7"
    assert client.is_domain_introduced(0)
    assert not client.is_domain_introduced(7)
    client.introduce_domain(7, 1, 1)
    assert client.is_domain_introduced(7)
    client.release_domain(7)
    assert not client.is_domain_introduced(7)


def test_a_transaction_and_a_conflict(pyxs_client):
    one, two = pyxs_client(), pyxs_client()
    one.write(b"/count", b"0")
    one.transaction()
    value = int(one.read(b"/count"))
    one.write(b"/count", b"%d" % (value + 1))
    two.write(b"/count", b"5")
    assert not one.commit()
    one.transaction()
    one.write(b"/count", b"%d" % (int(one.read(b"/count")) + 1))
    assert one.commit()
    assert two.read(b"/count") == b"6"


def test_a_rollback(pyxs_client):
    client = pyxs_client()
    client.transaction()
    client.write(b"/t", b"v")
    client.rollback()
    assert not client.exists(b"/t")


def test_a_monitor(pyxs_client):
    watcher, writer = pyxs_client(), pyxs_client()
    with watcher.monitor() as monitor:
        monitor.watch(b"/t", b"token")
        events = monitor.wait()
        assert next(events) == (b"/t", b"token")
        writer.write(b"/t/a", b"v")
        assert next(events) == (b"/t/a", b"token")
        writer.delete(b"/t")
        assert next(events) == (b"/t", b"token")
        monitor.unwatch(b"/t", b"token")


def test_a_monitor_of_domains(store, pyxs_client):
    with pyxs_client().monitor() as monitor:
        monitor.watch(b"@introduceDomain", b"in")
        monitor.watch(b"@releaseDomain", b"out")
        events = monitor.wait()
        assert {next(events)[1], next(events)[1]} == {b"in", b"out"}
        store.identity(3)
        assert next(events) == (b"@introduceDomain", b"in")
        store.release(3)
        assert next(events) == (b"@releaseDomain", b"out")


def test_one_client_in_many_threads(pyxs_client):
    client = pyxs_client()
    wrong = []

    def work(name):
        mine = copy.copy(client)
        for number in range(100):
            value = b"%d" % number
            mine.write(b"/t/" + name, value)
            if mine.read(b"/t/" + name) != value:
                wrong.append((name, number))

    threads = [threading.Thread(target=work, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert len(client.list(b"/t")) == 8
