"""The bytes of a connection, against a backend that does with the indexes what it likes."""

from __future__ import annotations

import errno
import os
import threading

import numpy
import pytest

from refimpl.data_ring.notification import NotifyConsumer
from refimpl.errors import DeviceGone, LimitReached
from refimpl.frontend import wait_readable, wait_writable
from refimpl.testing import raw

HALF = 4096


def put(pair, ring, data):
    """Put bytes into ``in`` and notify, as a backend does."""
    ring.produce("in", data)
    pair.backend.platform.fences.full()
    pair.backend.notify(ring.port)


def take(pair, ring, count):
    """Take ``count`` bytes out of ``out`` as they come, and notify."""
    taken = b""
    while len(taken) < count:
        pair.backend.await_true(lambda: ring.indexes["out_prod"] != ring.indexes["out_cons"], "bytes in out")
        taken += ring.consume("out")
        pair.backend.platform.fences.full()
        pair.backend.notify(ring.port)
    return taken


@pytest.mark.spec("IDXPAGE-11", "IDXPAGE-12", "WORKFLOW-8", "IDX-2")
def test_bytes_both_ways_around_the_border_with_no_command(pair, do):
    socket, ring = pair.connected()
    data = os.urandom(3 * HALF + 17)
    sending = do(socket.sendall, data)
    assert take(pair, ring, len(data)) == data
    sending.result()
    received = b""
    for start in range(0, len(data), 1000):
        put(pair, ring, data[start : start + 1000])
        while len(received) < min(start + 1000, len(data)):
            received += socket.recv(333)
    assert received == data
    assert ring.indexes["in_cons"] == len(data)
    assert pair.no_request()


@pytest.mark.parametrize(
    "make",
    [
        bytearray,
        lambda size: memoryview(bytearray(size)),
        lambda size: numpy.zeros(size, numpy.uint8),
        lambda size: numpy.zeros((size // 8, 2), numpy.uint32),
    ],
    ids=["bytearray", "memoryview", "numpy bytes", "numpy words"],
)
def test_buffers_of_any_kind(pair, make):
    socket, ring = pair.connected()
    data = os.urandom(800)
    put(pair, ring, data)
    target = make(800)
    assert socket.recv_into(target) == 800
    assert bytes(memoryview(target).cast("B")) == data
    socket.sendall(target)
    assert take(pair, ring, 800) == data
    put(pair, ring, data)
    assert socket.recv_into(target, 8) == 8
    assert socket.recv(1000) == data[8:]


def test_what_can_hold_no_bytes_is_refused_before_anything_moves(pair):
    socket, ring = pair.connected()
    put(pair, ring, b"kept")
    with pytest.raises(TypeError):
        socket.recv_into(b"read-only")
    with pytest.raises(TypeError):
        socket.recv_into(memoryview(b"read-only"))
    with pytest.raises(TypeError):
        socket.recv_into(memoryview(bytearray(8))[::2])
    with pytest.raises(ValueError):
        socket.recv_into(bytearray(4), 5)
    with pytest.raises(ValueError):
        socket.recv(-1)
    with pytest.raises(TypeError):
        socket.send(numpy.zeros((4, 4), numpy.uint8)[:, ::2])
    assert socket.recv(0) == b""
    assert socket.recv_into(bytearray()) == 0
    assert socket.recv_into(memoryview(bytearray())) == 0
    assert socket.send(b"") == 0
    socket.sendall(b"")
    assert socket.recv(10) == b"kept"


@pytest.mark.spec("IDXPAGE-16", "WORKFLOW-10")
@pytest.mark.erratum("E-DRAIN")
@pytest.mark.parametrize("error", [-107, 107])
def test_data_is_delivered_before_the_end_of_the_stream(pair, error):
    socket, ring = pair.connected()
    ring.indexes["in_error"] = error
    put(pair, ring, b"last words")
    assert socket.recv(4) == b"last"
    assert socket.recv(100) == b" words"
    assert socket.recv(100) == b""
    assert socket.recv_into(bytearray(5)) == 0


@pytest.mark.spec("IDXPAGE-14")
@pytest.mark.erratum("E-SIGN", "E-RST")
@pytest.mark.parametrize("error", [-104, 104])
def test_an_error_comes_after_the_data_before_it(pair, error):
    socket, ring = pair.connected()
    put(pair, ring, b"x")
    ring.indexes["in_error"] = ring.indexes["out_error"] = error
    pair.backend.notify(ring.port)
    assert socket.recv(10) == b"x"
    for _ in range(2):
        with pytest.raises(ConnectionResetError) as reset:
            socket.recv(10)
        assert reset.value.error_number == error
    with pytest.raises(ConnectionResetError):
        socket.send(b"y")
    assert ring.indexes["out_prod"] == 0


@pytest.mark.spec("WORKFLOW-5")
@pytest.mark.erratum("E-OUTERR")
def test_a_sender_that_waits_hears_of_the_error(pair, do):
    socket, ring = pair.connected()
    sending = do(socket.sendall, bytes(2 * HALF))
    pair.backend.await_true(lambda: ring.indexes["out_prod"] == HALF, "full ring")
    ring.indexes["out_error"] = -32
    pair.backend.notify(ring.port)
    with pytest.raises(BrokenPipeError):
        sending.result()


@pytest.mark.erratum("E-WRITE-EOF")
def test_after_the_end_of_the_stream_one_can_still_send(pair):
    socket, ring = pair.connected()
    ring.indexes["in_error"] = -107
    pair.backend.notify(ring.port)
    assert socket.recv(1) == b""
    socket.sendall(b"still here")
    assert take(pair, ring, 10) == b"still here"


@pytest.mark.security("SEC-F-6")
@pytest.mark.erratum("E-IDXBAD")
@pytest.mark.parametrize(
    "word, value",
    [
        *(("in_prod", value) for value in (HALF + 1, 2**31, 2**32 - 1)),
        *(("out_cons", value) for value in (1, 2**31, 2**32 - HALF - 1)),
    ],
)
def test_impossible_indexes_end_this_socket_only(pair, do, word, value):
    other, other_ring = pair.connected()
    socket, ring = pair.connected()
    ring.indexes[word] = value
    pair.backend.notify(ring.port)
    with pytest.raises(OSError, match=word) as broken:
        socket.recv(1) if word == "in_prod" else socket.send(b"x")
    assert (broken.value.errno, broken.value.error_number) == (errno.EIO, -5)
    ring.indexes[word] = 0
    with pytest.raises(OSError, match=word):
        socket.send(b"x")
    with pytest.raises(OSError, match=word):
        socket.recv(1)
    assert wait_readable([socket], 0) == [socket]
    closing = do(socket.close)
    asked = pair.backend.await_request()
    assert asked.cmd == raw.RELEASE
    pair.backend.answer(asked)
    closing.result()
    put(pair, other_ring, b"fine")
    assert other.recv(10) == b"fine"


@pytest.mark.security("SEC-F-6")
@pytest.mark.parametrize("word", ["in_prod", "out_cons"])
def test_a_thread_that_waits_hears_of_impossible_indexes(pair, do, word):
    socket, ring = pair.connected()
    if word == "out_cons":
        socket.sendall(bytes(HALF))
    waiting = do(socket.recv, 1) if word == "in_prod" else do(socket.send, b"x")
    ring.indexes[word] = 2**30
    pair.backend.notify(ring.port)
    with pytest.raises(OSError, match=word):
        waiting.result()


@pytest.mark.security("SEC-F-5", "SEC-F-9")
@pytest.mark.erratum("E-OWNIDX")
def test_nothing_a_backend_writes_into_the_indexes_page_changes_what_is_ended(paired, do):
    pair = paired(spare_rings=0)
    socket, ring = pair.connected()
    other, other_ring = pair.connected()
    refs, others = ring.indexes.refs(2), other_ring.indexes.refs(2)
    for offset in range(0, 4096, 4):
        ring.indexes.set_word(offset, others[0] if offset >= raw.FIRST_REF else 2**31)
    closing = do(socket.close, 0.0)
    pair.backend.answer(pair.backend.await_request())
    closing.result()
    platform, guest = pair.backend.platform, pair.backend.frontend_id
    for ref in refs:
        with pytest.raises(Exception, match="grants us no such map"):
            platform.map(guest, [ref])
    platform.map(guest, others).unmap()
    put(pair, other_ring, b"fine")
    assert other.recv(10) == b"fine"


@pytest.mark.security("SEC-F-8")
def test_pages_hold_nothing_but_the_protocol(pair, do):
    canary = b"canary of an earlier connection"
    socket, ring = pair.connected()
    put(pair, ring, canary)
    socket.recv(100)
    socket.sendall(canary)
    closing = do(socket.close, 0.0)
    release = pair.backend.await_request()
    pair.backend.platform.close_port(ring.port)
    ring.release()
    pair.backend.rings.remove(ring)
    pair.backend.answer(release)
    closing.result()
    for _ in range(3):
        _, ring = pair.connected()
        assert not any(ring.data)
        assert not any(ring.indexes.memory[140:])


@pytest.mark.spec("NORING-4")
@pytest.mark.erratum("E-CONSNOTIFY")
@pytest.mark.parametrize("rule, notified", [(NotifyConsumer.FULL_ONLY, False), (NotifyConsumer.ALWAYS, True)])
def test_who_is_told_of_bytes_taken(paired, rule, notified):
    pair = paired(notify_consumer=rule)
    socket, ring = pair.connected()
    put(pair, ring, b"x")
    assert socket.recv(1) == b"x"
    before = pair.frontend.statistics.notifications_sent
    put(pair, ring, b"y")
    assert socket.recv(1) == b"y"
    assert pair.frontend.statistics.notifications_sent == before + notified
    put(pair, ring, bytes(HALF))
    assert socket.recv(HALF) == bytes(HALF)
    assert pair.frontend.statistics.notifications_sent == before + 1 + 2 * notified - notified


@pytest.mark.spec("WORKFLOW-8", "NORING-5")
def test_one_send_is_one_index_and_one_event(pair):
    socket, ring = pair.connected()
    before = pair.frontend.statistics.notifications_sent
    socket.send(bytes(1000))
    assert ring.indexes["out_prod"] == 1000
    assert pair.frontend.statistics.notifications_sent == before + 1
    socket.send(bytes(1000))  # The backend has not taken the first: it looks again before it sleeps.
    assert pair.frontend.statistics.notifications_sent == before + 1


@pytest.mark.spec("WORKFLOW-13")
def test_no_more_is_sent_than_there_is_space(pair):
    socket, ring = pair.connected()
    socket.settimeout(0)
    assert socket.send(bytes(HALF + 1)) == HALF
    with pytest.raises(BlockingIOError):
        socket.send(b"x")
    assert wait_writable([socket], 0) == []
    assert take(pair, ring, HALF) == bytes(HALF)
    assert wait_writable([socket]) == [socket]
    socket.settimeout(0.01)
    socket.sendall(bytes(HALF))
    with pytest.raises(TimeoutError):
        socket.sendall(b"x")


@pytest.mark.spec("WORKFLOW-8", "WORKFLOW-12")
def test_a_large_ring_is_filled_and_emptied_in_pieces(paired):
    """The other end works on one meanwhile."""
    pair = paired(ring_order=9)
    socket, ring = pair.connected()
    quarter = ring.half_bytes // 4
    before = pair.frontend.statistics.notifications_sent
    data = os.urandom(ring.half_bytes)
    assert socket.send(data) == quarter == ring.indexes["out_prod"]
    assert pair.frontend.statistics.notifications_sent == before + 1
    socket.sendall(data[quarter:])
    assert take(pair, ring, len(data)) == data
    put(pair, ring, data)
    before = pair.frontend.statistics.notifications_sent
    taken = bytearray(len(data))
    assert socket.recv_into(taken) == quarter == ring.indexes["in_cons"]
    assert pair.frontend.statistics.notifications_sent == before + 1
    received = socket.recv(len(data))
    assert len(received) == quarter
    assert taken[:quarter] + received == data[: 2 * quarter]


def test_time_outs_of_recv(pair):
    socket, _ring = pair.connected()
    socket.settimeout(0.01)
    with pytest.raises(TimeoutError):
        socket.recv(1)
    socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        socket.recv_into(bytearray(1))
    socket.setblocking(True)
    assert socket.gettimeout() is None
    with pytest.raises(ValueError):
        socket.settimeout(-1)


@pytest.mark.spec("WORKFLOW-11")
def test_what_was_taken_is_published_before_any_wait(pair, do):
    socket, ring = pair.connected()
    put(pair, ring, bytes(HALF))
    socket.recv(1)
    assert ring.indexes["in_cons"] == 0  # Less than a quarter, and there is more.
    assert wait_readable([socket], 0) == [socket]
    socket.sendall(bytes(HALF))
    sending = do(socket.send, b"x")
    pair.until(lambda: ring.indexes["in_cons"] == 1)
    take(pair, ring, HALF + 1)
    sending.result()
    socket.recv(1)
    closing = do(socket.close)
    release = pair.backend.await_request()
    assert ring.indexes["in_cons"] == 2
    pair.backend.answer(release)
    closing.result()


@pytest.mark.erratum("E-CONSNOTIFY")
def test_a_backend_that_missed_an_event_is_notified_again(pair, do):
    socket, ring = pair.connected()
    socket.send(b"request")
    for port in pair.backend.platform.wait(30):
        pair.backend.platform.rearm(port)  # The event is lost on this backend.
    receiving = do(socket.recv, 10)
    for port in pair.backend.platform.wait(30):
        pair.backend.platform.rearm(port)
        assert port == ring.port
    put(pair, ring, b"answer")
    assert receiving.result() == b"answer"


@pytest.mark.erratum("E-SENDCLOSE")
def test_close_waits_until_what_was_sent_is_taken(pair, do):
    socket, ring = pair.connected()
    socket.sendall(b"last words")
    closing = do(socket.close)
    assert not threading.Event().wait(0.1)
    assert pair.no_request()
    assert take(pair, ring, 10) == b"last words"
    pair.backend.answer(pair.backend.await_request())
    closing.result()


@pytest.mark.erratum("E-SENDCLOSE")
@pytest.mark.parametrize("why", ["time is up", "out_error", "out_cons is impossible"])
def test_close_does_not_wait_for_what_cannot_be(pair, do, why):
    socket, ring = pair.connected()
    socket.sendall(b"never taken")
    if why == "out_error":
        ring.indexes["out_error"] = -104
    elif why == "out_cons is impossible":
        ring.indexes["out_cons"] = 2**31
    closing = do(socket.close, 0.05 if why == "time is up" else 1000.0)
    pair.backend.answer(pair.backend.await_request())
    closing.result()


@pytest.mark.spec("RELEASE-5", "RELEASE-6")
@pytest.mark.erratum("E-REUSE")
def test_the_ring_is_ours_until_release_is_answered(paired, do):
    pair = paired(spare_rings=0)
    socket, ring = pair.connected()
    refs = ring.indexes.refs(2)
    closing = do(socket.close)
    release = pair.backend.await_request()
    assert (release.cmd, release.id) == (raw.RELEASE, socket.id)
    assert not any(release.raw[16:24])
    pair.backend.platform.map(pair.backend.frontend_id, refs).unmap()
    pair.backend.answer(release)
    closing.result()
    with pytest.raises(Exception, match="grants us no such map"):
        pair.backend.platform.map(pair.backend.frontend_id, refs)


def test_closing_ends_whoever_waits(pair, do):
    socket, _ring = pair.connected()
    socket.sendall(b"")
    waiting = [do(socket.recv, 1), do(socket.recv_into, bytearray(1)), do(wait_readable, [socket])]
    pair.answered(socket.close)
    for each in waiting[:2]:
        with pytest.raises(OSError) as closed:
            each.result()
        assert closed.value.errno == errno.EBADF
    assert waiting[2].result() == [socket]
    for call in (lambda: socket.recv(1), lambda: socket.send(b"x"), lambda: socket.connect(("192.0.2.1", 1))):
        with pytest.raises(OSError) as closed:
            call()
        assert closed.value.errno == errno.EBADF
    socket.close()
    assert pair.no_request()


@pytest.mark.erratum("E-BCLOSE", "E-DRAIN")
def test_what_was_received_before_the_device_went_is_still_delivered(pair, do):
    socket, ring = pair.connected()
    reader, _ = pair.connected()
    put(pair, ring, b"received in time")
    reading = do(reader.recv, 1)
    pair.go_away()
    with pytest.raises(DeviceGone):
        reading.result()
    assert socket.recv(8) == b"received"
    target = bytearray(4)
    assert socket.recv_into(target) == 4
    assert wait_readable([socket], 0) == [socket]
    assert bytes(target) + socket.recv(100) == b" in time"
    for _ in range(2):
        with pytest.raises(DeviceGone) as gone:
            socket.recv(1)
        assert isinstance(gone.value, ConnectionError)
        assert gone.value.errno == errno.EIO
    with pytest.raises(DeviceGone):
        socket.send(b"x")
    assert pair.frontend.statistics.bytes_received == 16
    socket.close()


def test_threads_on_one_socket_get_each_byte_once(pair, do):
    socket, ring = pair.connected()
    got = [bytearray() for _ in range(3)]

    def receive(into):
        while piece := socket.recv(7):
            into += piece

    receiving = [do(receive, into) for into in got]
    for value in range(256):
        put(pair, ring, bytes([value]))
    pair.until(lambda: ring.indexes["in_cons"] == 256)
    ring.indexes["in_error"] = -107
    pair.backend.notify(ring.port)
    for each in receiving:
        each.result()
    assert sorted(b"".join(got)) == list(range(256))


@pytest.mark.erratum("E-DRAIN")
def test_data_that_comes_between_the_look_at_data_and_the_look_at_the_error(pair):
    socket, ring = pair.connected()
    ring.indexes["in_error"] = -107
    connection = socket._connection
    real = connection._read_fence
    late = [lambda: ring.produce("in", b"late")]
    connection._read_fence = lambda: (late.pop()() if late else None, real())
    assert socket.recv(100) == b"late"
    assert socket.recv(100) == b""
    late.append(lambda: ring.indexes.__setitem__("in_prod", 2**31))
    with pytest.raises(OSError, match="in_prod"):
        socket.recv(100)


@pytest.mark.erratum("E-IDXINIT")
def test_a_page_written_before_it_was_told_of(pair, do, monkeypatch):
    socket = pair.socket()
    grant = pair.machine.guest.grant

    def grant_what_is_written_at_once(peer, count, **more):
        pages = grant(peer, count, **more)
        if count == 1:
            pages.memory[7] = 0x80
        return pages

    monkeypatch.setattr(pair.machine.guest, "grant", grant_what_is_written_at_once)
    with pytest.raises(OSError, match="in_prod") as broken:
        socket.connect(("192.0.2.1", 80))
    assert broken.value.errno == errno.EIO
    assert pair.no_request()
    monkeypatch.undo()
    connecting = do(socket.connect, ("192.0.2.1", 80))
    asked = pair.backend.await_request()
    pair.backend.map_data_ring(asked)
    pair.backend.answer(asked)
    connecting.result()


def test_no_room_for_a_ring(pair, monkeypatch):
    socket = pair.socket()

    def refuse(peer, count, **more):
        raise LimitReached("grants", 7, "close some sockets")

    monkeypatch.setattr(pair.machine.guest, "grant", refuse)
    with pytest.raises(OSError, match="close some sockets") as full:
        socket.connect(("192.0.2.1", 80))
    assert full.value.errno == errno.ENOBUFS
    assert pair.no_request()
