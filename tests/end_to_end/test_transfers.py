"""Real bytes through a real backend, in a process of its own, to ordinary TCP peers."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import socket
import threading

import numpy
import pytest

from refimpl.errors import DeviceGone
from refimpl.frontend import Frontend, wait_readable, wait_writable

PATIENCE = 30.0


def echo(connection):
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def hash_all(connection):
    digest = hashlib.sha256()
    while data := connection.recv(1 << 16):
        digest.update(data)
    return digest.hexdigest()


def receive(sock, count):
    received = bytearray()
    while len(received) < count:
        piece = sock.recv(1 << 20)
        assert piece, f"the end after {len(received)} of {count} bytes"
        received += piece
    return bytes(received)


def receive_all(sock):
    received = bytearray()
    while piece := sock.recv(1 << 20):
        received += piece
    return bytes(received)


SIZES = [1, 2, 4095, 4096, 4097, 8191, 8192, 8193, 65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 8 << 20]


@pytest.mark.spec("RAT-1", "IDXPAGE-18")
@pytest.mark.parametrize("order", [1, 9])
def test_both_ways_at_once_in_all_sizes(open_guest, peer, do, order):
    server = peer(echo)
    with open_guest(ring_order=order).create_connection(server.address) as sock:
        for size in SIZES:
            data = random.randbytes(size)
            sending = do(sock.sendall, data)
            assert hashlib.sha256(receive(sock, size)).digest() == hashlib.sha256(data).digest()
            sending.result()


@pytest.mark.spec("WORKFLOW-1")
def test_pieces_of_every_size_around_the_border(open_guest, peer, do):
    server = peer(echo)
    sizes = [random.choice((1, 7, 1000, 4095, 4096, 4097, 12289)) for _ in range(300)]
    data = random.randbytes(sum(sizes))

    def send(sock):
        start = 0
        for size in sizes:
            sock.sendall(data[start : start + size])
            start += size

    with open_guest(ring_order=1).create_connection(server.address) as sock:
        sending = do(send, sock)
        received, buffer = bytearray(), numpy.zeros(5000, numpy.uint8)
        while len(received) < len(data):
            count = sock.recv_into(buffer, random.randrange(1, 5000))
            received += buffer[:count].tobytes()
        sending.result()
    assert received == data


@pytest.mark.spec("IDXPAGE-16")
@pytest.mark.erratum("E-DRAIN", "E-FIN-LOSS")
@pytest.mark.parametrize("size", [0, 1, 4096, 1 << 20, 5 << 20])
def test_all_data_then_the_end_of_the_stream(guest, peer, size):
    data = random.randbytes(size)
    server = peer(lambda connection: connection.sendall(data))
    with guest.create_connection(server.address) as sock:
        assert receive_all(sock) == data
        assert sock.recv(1) == b""


@pytest.mark.erratum("E-SENDCLOSE")
@pytest.mark.parametrize("size", [1, 4096, 1 << 20, 6 << 20])
def test_what_was_sent_before_close_arrives(guest, peer, size):
    server = peer(hash_all)
    data = random.randbytes(size)
    for _ in range(3):
        sock = guest.create_connection(server.address)
        sock.sendall(data)
        sock.close()
    for _ in range(3):
        assert server.outcome() == hashlib.sha256(data).hexdigest()


@pytest.mark.erratum("E-WRITE-EOF")
def test_the_peer_may_end_its_direction_first(guest, peer):
    def say_and_listen(connection):
        connection.sendall(b"go on")
        connection.shutdown(socket.SHUT_WR)
        return receive_all(connection)

    server = peer(say_and_listen)
    with guest.create_connection(server.address) as sock:
        assert receive_all(sock) == b"go on"
        sock.sendall(b"still talking")
    assert server.outcome() == b"still talking"


@pytest.mark.erratum("E-RST")
def test_a_reset_is_an_error_after_the_data(guest, peer):
    sent = threading.Event()

    def reset(connection):
        connection.sendall(b"before")
        assert sent.wait(PATIENCE)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    server = peer(reset)
    with guest.create_connection(server.address) as sock:
        assert receive(sock, 6) == b"before"
        sent.set()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        with pytest.raises(OSError):
            sock.send(b"x")


@pytest.mark.spec("CONNECT-17")
def test_a_refused_connect_and_another_try(guest, peer, free_port):
    with guest.socket() as sock:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError) as refused:
                sock.connect(("127.0.0.1", free_port))
            assert refused.value.error_number == -errno.ECONNREFUSED
        server = peer(echo)
        sock.connect(server.address)
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"


@pytest.mark.spec("RAT-6", "ACCEPT-1", "BIND-6")
def test_a_guest_is_visited_from_outside(guest, do, free_port):
    with guest.create_server(("127.0.0.1", free_port)) as listener:
        with pytest.raises(OSError) as taken:
            guest.create_server(("127.0.0.1", free_port))
        assert taken.value.errno == errno.EADDRINUSE
        for number in range(5):
            with socket.create_connection(("127.0.0.1", free_port)) as visitor:
                sock, nobody = listener.accept()
                assert nobody is None
                with sock:
                    visitor.sendall(b"visitor %d" % number)
                    assert sock.recv(100) == b"visitor %d" % number
                    sock.sendall(b"welcome")
                    assert visitor.recv(100) == b"welcome"
                assert visitor.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port))


@pytest.mark.erratum("E-ACC-PREDATA")
def test_data_that_was_there_before_accept(guest, free_port):
    address = ("127.0.0.1", free_port)
    with guest.create_server(address) as listener, socket.create_connection(address) as visitor:
        visitor.sendall(b"early")
        visitor.shutdown(socket.SHUT_WR)
        assert wait_readable([listener], PATIENCE) == [listener]
        sock, _ = listener.accept()
        assert receive_all(sock) == b"early"
        sock.close()


@pytest.mark.spec("POLL-3", "ACCEPT-6")
def test_time_outs_and_a_late_accept(guest, free_port):
    with guest.create_server(("127.0.0.1", free_port)) as listener:
        assert wait_readable([listener], 0.01) == []
        listener.settimeout(0.01)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                listener.accept()
        with socket.create_connection(("127.0.0.1", free_port)) as visitor:
            assert wait_readable([listener], PATIENCE) == [listener]
            listener.settimeout(0)
            sock, _ = listener.accept()
            visitor.sendall(b"x")
            assert sock.recv(1) == b"x"
            sock.settimeout(0.01)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.settimeout(0)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
            sock.close()


def test_a_listener_with_threads_inside_can_be_closed(guest, do, free_port):
    listener = guest.create_server(("127.0.0.1", free_port))
    accepting = [do(listener.accept) for _ in range(3)]
    polling = do(wait_readable, [listener])
    threading.Event().wait(0.02)
    listener.close()
    for each in accepting:
        with pytest.raises(OSError) as closed:
            each.result()
        assert closed.value.errno == errno.EBADF
    assert polling.result() == [listener]


def test_many_threads_each_with_a_socket_of_its_own(guest, peer, do):
    server = peer(echo)

    def talk(seed):
        generator = random.Random(seed)
        with guest.create_connection(server.address, timeout=PATIENCE) as sock:
            for _ in range(30):
                data = generator.randbytes(generator.choice((1, 100, 5000, 70_000)))
                sock.sendall(data)
                assert receive(sock, len(data)) == data
        return seed

    talking = [do(talk, seed) for seed in range(12)]
    assert [each.result() for each in talking] == list(range(12))


def test_many_threads_open_and_close(guest, peer, do):
    server = peer(echo)

    def visit():
        for number in range(15):
            with guest.create_connection(server.address) as sock:
                sock.sendall(b"%d" % number)
                assert sock.recv(10) == b"%d" % number

    for each in [do(visit) for _ in range(6)]:
        each.result()
    assert not guest._device.live_rings()
    assert guest.statistics.commands["RELEASE"] == 90


def test_one_thread_serves_many_by_waiting_for_any(guest, peer, do, free_port):
    def ask(number):
        with socket.create_connection(("127.0.0.1", free_port)) as visitor:
            for _ in range(20):
                visitor.sendall(b"%d" % number)
                assert visitor.recv(100) == b"%d" % number

    with guest.create_server(("127.0.0.1", free_port)) as listener:
        visitors, open_sockets, ended = [do(ask, number) for number in range(8)], [], 0
        while ended < 8:
            for sock in wait_readable([listener, *open_sockets], PATIENCE):
                if sock is listener:
                    open_sockets.append(listener.accept()[0])
                elif data := sock.recv(100):
                    sock.sendall(data)
                else:
                    sock.close()
                    open_sockets.remove(sock)
                    ended += 1
        for each in visitors:
            each.result()


def test_a_peer_that_reads_slowly_holds_only_its_own_socket(open_guest, peer, do):
    go_on = threading.Event()

    def read_late(connection):
        assert go_on.wait(PATIENCE)
        return hash_all(connection)

    slow, quick, guest = peer(read_late), peer(echo), open_guest(ring_order=4)
    data = os.urandom(16 << 20)
    with guest.create_connection(slow.address) as sock, guest.create_connection(quick.address) as other:
        sending = do(sock.sendall, data)
        for _ in range(50):
            other.sendall(b"still quick")
            assert receive(other, 11) == b"still quick"
        assert not sending.is_done
        assert wait_writable([other]) == [other]
        go_on.set()
        sending.result()
    assert slow.outcome() == hashlib.sha256(data).hexdigest()


@pytest.mark.spec("RAT-7")
def test_two_guests_talk_over_the_backends_loopback(open_guest, do, free_port):
    one, other = open_guest(), open_guest(ring_order=2)
    data = random.randbytes(3 << 20)
    with one.create_server(("127.0.0.1", free_port)) as listener:
        accepting = do(listener.accept)
        with other.create_connection(("127.0.0.1", free_port)) as sock:
            accepted, _ = accepting.result()
            with accepted:
                sending = do(sock.sendall, data)
                assert receive(accepted, len(data)) == data
                sending.result()
                accepted.sendall(b"thanks")
                assert receive(sock, 6) == b"thanks"
            assert sock.recv(1) == b""


@pytest.mark.erratum("E-BCLOSE", "E-RECONNECT", "E-PENDING-CLOSE")
def test_a_backend_that_closes_and_one_that_comes_after_it(run, platform, peer, do):
    server = peer(echo)
    run.start_backend()
    for _ in range(2):
        frontend = Frontend.open(platform)
        sock = frontend.create_connection(server.address)
        sock.sendall(b"echoed in time")
        assert wait_readable([sock], PATIENCE)
        waiting = do(frontend.create_connection(server.address).recv, 1)
        run.stop_backend()
        with pytest.raises(DeviceGone):
            waiting.result()
        assert receive(sock, 14) == b"echoed in time"
        with pytest.raises(DeviceGone):
            sock.recv(1)
        sock.close()
        frontend.close()
        run.start_backend()
    with Frontend.open(platform) as frontend, frontend.create_connection(server.address) as sock:
        sock.sendall(b"again")
        assert receive(sock, 5) == b"again"


@pytest.mark.erratum("E-RECONNECT", "E-FASTCLOSE")
def test_a_backend_that_is_killed_and_one_that_comes_after_it(run, platform, peer, do):
    server = peer(echo)
    run.start_backend()
    frontend = Frontend.open(platform)
    sock = frontend.create_connection(server.address)
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    waiting = do(sock.recv, 1)
    run.kill_backend()
    run.start_backend()
    with pytest.raises(DeviceGone):
        waiting.result()
    frontend.close()
    with Frontend.open(platform) as frontend, frontend.create_connection(server.address) as sock:
        sock.sendall(b"again")
        assert receive(sock, 5) == b"again"


def test_opening_a_device_whose_frontend_was_never_closed(run, platform, peer):
    server = peer(echo)
    run.start_backend()
    for _ in range(3):
        frontend = Frontend.open(platform)
        sock = frontend.create_connection(server.address)
        frontend.close(0.0)
        with pytest.raises(OSError):
            sock.send(b"x")


def test_the_sums_of_both_ends_agree(guest, peer):
    server = peer(echo)
    data = random.randbytes(100_000)
    with guest.create_connection(server.address) as sock:
        sock.sendall(data)
        assert receive(sock, len(data)) == data
    sums = guest.statistics
    assert (sums.bytes_sent, sums.bytes_received, sums.connections) == (100_000, 100_000, 1)
    assert sums.commands == {"SOCKET": 1, "CONNECT": 1, "RELEASE": 1}
