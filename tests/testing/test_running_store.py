"""The store that tests of others run: paths that work, errors that come out, and nothing left behind."""

from __future__ import annotations

import os
import tempfile
import threading

import pytest

from refimpl.errors import Misuse
from refimpl.shm.store import Quotas
from refimpl.store.wire import OK, Operation
from refimpl.testing.raw_store_client import RawStoreClient
from refimpl.testing.running_store import running_store


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="xs") as folder:
        yield folder


def test_it_is_the_path_of_domain_0(folder):
    with running_store(folder) as store:
        assert os.path.dirname(store) == folder
        assert store.identity(0) == store
        with RawStoreClient.connect(store) as client:
            assert client.request(Operation.WRITE, b"/a\0v").payload == OK


def test_identities_are_introduced_and_come_back_after_a_release(folder):
    with running_store(folder) as store, RawStoreClient.connect(store) as toolstack:
        for _ in range(2):
            path = store.identity(3)
            assert store.identity(3) == path
            with RawStoreClient.connect(path) as guest:
                assert guest.request(Operation.READ, b"/tool\0").error == "EACCES"
                assert toolstack.request(Operation.IS_DOMAIN_INTRODUCED, b"3\0").payload == b"T\0"
                store.release(3)
                with pytest.raises(EOFError):
                    guest.receive()


def test_quotas_can_be_set(folder):
    with (
        running_store(folder, quotas=Quotas(watches=0)) as store,
        RawStoreClient.connect(store.identity(1)) as guest,
    ):
        assert guest.request(Operation.WATCH, b"a\0t\0").payload == OK
        assert guest.request(Operation.WATCH, b"b\0t\0").error == "E2BIG"


def test_what_the_server_refuses_comes_out(folder):
    with running_store(folder) as store:
        with pytest.raises(Misuse):
            store.identity(-1)
        with pytest.raises(Misuse):
            store.release(0)


def test_nothing_is_left(folder):
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with running_store(folder) as store:
        store.identity(1)
    assert os.listdir(folder) == []
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_folder_that_cannot_be(folder):
    threads = threading.active_count()
    with pytest.raises(Misuse, match="107"), running_store(os.path.join(folder, "x" * 200)):
        pass
    assert threading.active_count() == threads
