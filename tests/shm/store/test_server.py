"""The server as a whole: sockets, domains, limits of connections, and any selector."""

from __future__ import annotations

import os
import selectors
import socket
import stat
import subprocess
import sys

import pytest

from refimpl.errors import Misuse
from refimpl.shm.store import Quotas, StoreServer
from refimpl.store.wire import Operation, packet
from refimpl.testing.raw_store_client import RawStoreClient

READ_TOOL = packet(Operation.READ, b"/tool\0", 1)
EMPTY_REPLY = packet(Operation.READ, b"", 1)
REFUSED = packet(Operation.ERROR, b"EACCES\0", 1)


def asked(loop, stream, request=READ_TOOL):
    stream.sendall(request)
    loop.settle()
    return stream.recv(1 << 20)


@pytest.mark.parametrize("kind", [selectors.PollSelector, selectors.EpollSelector])
def test_any_selector_will_do(loop, kind):
    loop = loop(selector=kind())
    with loop.connect() as one, loop.connect(1) as guest:
        assert asked(loop, one) == EMPTY_REPLY
        assert asked(loop, guest) == REFUSED
        one.sendall(READ_TOOL * 1000)
        received = b""
        while len(received) < 1000 * len(EMPTY_REPLY):
            loop.turn()
            try:
                received += one.recv(1 << 20)
            except BlockingIOError:
                continue
        loop.server.release(1)
        loop.settle()
        assert guest.recv(1) == b""


def test_sockets_are_for_this_user_only(loop):
    loop = loop()
    assert stat.S_IMODE(loop.path(3).stat().st_mode) == 0o600


def test_listening_where_it_cannot_be(loop, short_path):
    loop = loop()
    for domid in (-1, 0x7FF0, 0xFFFF):
        with pytest.raises(Misuse):
            loop.server.listen(domid, str(short_path / "x"))
    with pytest.raises(Misuse, match="already"):
        loop.server.listen(0, str(short_path / "x"))
    with pytest.raises(Misuse, match="107"):
        loop.server.listen(1, str(short_path / ("x" * 108)))
    with pytest.raises(FileNotFoundError):
        loop.server.listen(1, str(short_path / "no" / "x"))
    (short_path / "taken").write_text("")
    with pytest.raises(OSError, match="in use"):
        loop.server.listen(1, str(short_path / "taken"))
    assert (short_path / "taken").exists()
    loop.server.listen(1, str(short_path / "x"))


def test_domains_that_cannot_be(loop):
    server = loop().server
    for domid in (-1, 0x7FF0):
        with pytest.raises(Misuse):
            server.introduce(domid)
        with pytest.raises(Misuse):
            server.release(domid)
    with pytest.raises(Misuse):
        server.release(0)


@pytest.mark.parametrize("by", ["call", "wire"])
def test_release_hangs_up_and_removes_the_socket(loop, by):
    loop = loop()
    with loop.connect() as toolstack, loop.connect(1) as guest, loop.connect(2) as other:
        path = loop.path(1)
        loop.server.introduce(1)
        if by == "call":
            loop.server.release(1)
        else:
            assert asked(loop, toolstack, packet(Operation.RELEASE, b"1\0", 1)) == packet(Operation.RELEASE, b"OK\0", 1)
        assert not path.exists()
        assert guest.recv(1) == b""
        assert asked(loop, other) == REFUSED
    with loop.connect(1) as reborn:  # the same number, a new domain
        assert asked(loop, reborn) == REFUSED


def test_introduction_and_release_reach_who_watches(loop):
    loop = loop()
    with loop.connect() as toolstack:
        for event in (b"@introduceDomain", b"@releaseDomain"):
            asked(loop, toolstack, packet(Operation.WATCH, event + b"\0t\0"))
        loop.server.introduce(1)
        assert toolstack.recv(4096) == packet(Operation.WATCH_EVENT, b"@introduceDomain\0t\0")
        loop.server.release(1)
        assert toolstack.recv(4096) == packet(Operation.WATCH_EVENT, b"@releaseDomain\0t\0")


def test_closing_leaves_nothing(short_path):
    before = sorted(os.listdir("/proc/self/fd"))
    with selectors.DefaultSelector() as selector:
        server = StoreServer(selector)
        for domid in (0, 1):
            server.listen(domid, str(short_path / str(domid)))
        clients = [RawStoreClient.connect(short_path / str(domid)) for domid in (0, 0, 1)]
        for key, mask in selector.select():
            key.data(mask)
        server.close()
        server.close()
        assert not selector.get_map()
    for client in clients:
        with pytest.raises(EOFError):
            client.receive()
        client.close()
    assert os.listdir(short_path) == []
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_socket_file_that_is_gone_already(loop):
    loop = loop()
    loop.path(1).unlink()
    loop.server.release(1)


def test_a_guest_has_so_many_connections_and_the_next_waits(loop):
    loop = loop(Quotas(connections=3))
    streams = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for stream in streams:
        stream.connect(str(loop.path(1)))
        stream.settimeout(0)
    streams[3].sendall(READ_TOOL)
    loop.settle()
    assert len(loop.server._connections) == 3
    assert loop.turn() == 0
    streams[0].close()
    loop.settle()
    assert streams[3].recv(4096) == REFUSED
    for stream in streams:
        stream.close()


def test_domain_0_has_as_many_connections_as_it_likes(loop):
    loop = loop(Quotas(connections=3))
    streams = [loop.connect() for _ in range(50)]
    assert [asked(loop, stream) for stream in streams] == [EMPTY_REPLY] * 50
    for stream in streams:
        stream.close()


def test_connections_by_the_hundred_come_and_go(loop):
    loop = loop()
    for _ in range(300):
        with loop.connect() as stream:
            assert asked(loop, stream) == EMPTY_REPLY
    loop.settle()
    assert not loop.server._connections


def test_one_turn_may_end_a_client_whose_turn_was_still_to_come(loop):
    loop = loop()
    with loop.connect() as toolstack, loop.connect(1) as guest:
        loop.server.introduce(1)
        guest.sendall(READ_TOOL)
        toolstack.sendall(packet(Operation.RELEASE, b"1\0"))
        ready = loop.selector.select(0)
        assert len(ready) == 2
        ready.sort(key=lambda event: event[0].fd)  # the toolstack connected first
        for key, mask in ready:
            key.data(mask)
        loop.settle()
        with pytest.raises(ConnectionResetError):  # it was dropped with its request unread
            guest.recv(4096)
        assert len(loop.server._connections) == 1


OUT_OF_DESCRIPTORS = """
import os, resource, selectors, socket, sys
from refimpl.shm.store import StoreServer
from refimpl.store.wire import Operation, packet

selector = selectors.DefaultSelector()
server = StoreServer(selector)
server.listen(0, sys.argv[1])
clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
limit = max(map(int, os.listdir("/proc/self/fd"))) + 2
former = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, former[1]))
for client in clients:
    client.connect(sys.argv[1])
    client.sendall(packet(Operation.READ, b"/tool\\0"))

def settle():
    while ready := selector.select(0):
        for key, mask in ready:
            key.data(mask)

settle()
served = len(server._connections)
assert 0 < served < 3, served
assert not selector.select(0), "it turns for nothing"
if sys.argv[2] == "others leave":
    for client in clients[:served]:
        assert client.recv(100)
        client.close()
    settle()
    left, waited_for = clients[served:], 3 - served
else:
    resource.setrlimit(resource.RLIMIT_NOFILE, former)
    left, waited_for = clients, 3
while len(server._connections) < waited_for:
    for key, mask in selector.select(30):
        key.data(mask)
settle()
for client in left:
    assert client.recv(100)
server.close()
"""


@pytest.mark.parametrize("relief", ["others leave", "the limit is raised"])
def test_no_descriptor_left_is_no_end(short_path, relief):
    subprocess.run([sys.executable, "-c", OUT_OF_DESCRIPTORS, short_path / "s", relief], check=True, timeout=60)


def test_a_listener_that_ends_while_it_is_starved(loop, monkeypatch):
    loop = loop()
    listener = loop.server._listeners[0]
    monkeypatch.setattr(listener, "accept", lambda: setattr(listener, "is_starved", True))
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(loop.path(0)))
        loop.settle()
        assert listener.is_paused
        loop.server.close()
