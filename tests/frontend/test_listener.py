"""The passive side: one ACCEPT or POLL in flight, whoever gives up waiting for it."""

from __future__ import annotations

import errno

import pytest

from refimpl.frontend import wait_readable, waiting
from refimpl.testing import raw


def accept(pair, asked):
    """Answer an ACCEPT as a backend does; return the data ring."""
    assert asked.cmd == raw.ACCEPT
    ring = pair.backend.map_data_ring(asked)
    pair.backend.answer(asked)
    return ring


@pytest.mark.spec("ACCEPT-2", "ACCEPT-3", "ACCEPT-4", "ACCEPT-5")
def test_accept_brings_a_ring_of_its_own_and_an_id_of_its_own(pair, do):
    listener = pair.listening()
    accepted, rings = [], []
    for _ in range(2):
        accepting = do(listener.accept)
        rings.append(accept(pair, pair.backend.await_request()))
        accepted.append(accepting.result())
    (first, nobody), (second, _) = accepted
    assert nobody is None
    assert len({listener.id, first.id, second.id}) == 3
    rings[1].produce("in", b"for the second")
    pair.backend.notify(rings[1].port)
    assert second.recv(100) == b"for the second"
    assert rings[0].port != rings[1].port


@pytest.mark.spec("ACCEPT-13")
@pytest.mark.erratum("E-ACC-CONC")
def test_many_threads_accept_one_at_a_time(pair, do):
    listener = pair.listening()
    accepting = [do(listener.accept) for _ in range(4)]
    for _ in range(4):
        asked = pair.backend.await_request()
        assert pair.no_request()
        accept(pair, asked)
    assert len({each.result()[0].id for each in accepting}) == 4


@pytest.mark.spec("POLL-1", "POLL-4")
@pytest.mark.erratum("E-POLL-ACC", "E-POLL-SEM")
def test_poll_and_accept_are_never_in_flight_together(pair, do):
    listener = pair.listening()
    polling = do(wait_readable, [listener])
    poll = pair.backend.await_request()
    assert (poll.cmd, poll.id) == (raw.POLL, listener.id)
    listener.settimeout(0.05)
    with pytest.raises(TimeoutError):
        listener.accept()
    assert wait_readable([listener], 0.05) == []
    assert pair.no_request()
    pair.backend.answer(poll)
    assert polling.result() == [listener]
    listener.settimeout(None)
    accepting = do(listener.accept)
    accept(pair, pair.backend.await_request())
    accepting.result()


@pytest.mark.erratum("E-POLL-ACC")
def test_an_accept_in_flight_is_what_a_wait_looks_at(pair):
    listener = pair.listening()
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()
    asked = pair.backend.await_request()
    assert wait_readable([listener], 0) == []
    accept(pair, asked)
    assert wait_readable([listener]) == [listener]
    listener.accept()[0]


def test_a_call_that_does_not_wait_takes_what_poll_promised(pair, do):
    listener = pair.listening()
    listener.settimeout(0)
    polling = do(wait_readable, [listener])
    pair.backend.answer(pair.backend.await_request())
    polling.result()
    accepting = do(listener.accept)
    accept(pair, pair.backend.await_request())
    accepting.result()


@pytest.mark.spec("ACCEPT-6")
def test_an_accept_given_up_is_found_by_the_next(pair, do):
    listener = pair.listening()
    listener.settimeout(0.01)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            listener.accept()
    asked = pair.backend.await_request()
    assert pair.no_request()
    ring = accept(pair, asked)
    socket, _ = listener.accept()
    ring.produce("in", b"x")
    pair.backend.notify(ring.port)
    assert socket.recv(1) == b"x"


@pytest.mark.erratum("E-ACC-CONC")
@pytest.mark.parametrize("interrupted", [raw.ACCEPT, raw.POLL])
def test_EINTR_means_to_ask_again(pair, do, interrupted, monkeypatch):
    monkeypatch.setattr(waiting, "LONGEST_WAIT_SECONDS", 0.02)
    listener = pair.listening()
    if interrupted == raw.POLL:
        polling = do(wait_readable, [listener])
        pair.backend.answer(pair.backend.await_request(), -4)
        pair.backend.answer(pair.backend.await_request())
        assert polling.result() == [listener]
    accepting = do(listener.accept)
    pair.backend.answer(pair.backend.await_request(), -4)
    accept(pair, pair.backend.await_request())
    accepting.result()


@pytest.mark.spec("ACCEPT-15")
@pytest.mark.erratum("E-ACC-RET", "E-ACC-FAIL")
def test_a_refused_accept_makes_no_socket_and_keeps_no_grant(pair, do):
    listener = pair.listening()
    before = pair.frontend.statistics.connections
    accepting = do(listener.accept)
    asked = pair.backend.await_request()
    pair.backend.answer(asked, -14)
    with pytest.raises(OSError) as refused:
        accepting.result()
    assert (refused.value.errno, refused.value.error_number) == (errno.EFAULT, -14)
    assert pair.frontend.statistics.connections == before + 1
    assert pair.frontend._device.live_rings() == []
    accepting = do(listener.accept)
    accept(pair, pair.backend.await_request())
    accepting.result()


@pytest.mark.spec("ACCEPT-6")
def test_EAGAIN_is_no_answer_to_accept(pair, do):
    listener = pair.listening()
    accepting = do(listener.accept)
    pair.backend.answer(pair.backend.await_request(), -11)
    with pytest.raises(OSError) as refused:
        accepting.result()
    assert (refused.value.errno, refused.value.error_number) == (errno.EIO, -11)


@pytest.mark.erratum("E-ACC-REL")
def test_closing_a_listener_ends_its_accept(pair, do):
    listener = pair.listening()
    accepting = do(listener.accept)
    asked = pair.backend.await_request()
    closing = do(listener.close)
    release = pair.backend.await_request()
    pair.backend.answer(asked, -9)
    pair.backend.answer(release)
    closing.result()
    with pytest.raises(OSError) as closed:
        accepting.result()
    assert closed.value.errno == errno.EBADF
    assert pair.frontend._device.live_rings() == []


@pytest.mark.erratum("E-ACC-REL")
def test_a_backend_that_forgets_the_accept_of_a_released_listener(pair, do):
    listener = pair.listening()
    accepting = do(listener.accept)
    pair.backend.await_request()
    pair.answered(listener.close)
    with pytest.raises(OSError, match="closed"):
        accepting.result()
    assert pair.frontend._device.live_rings() == []
    assert pair.socket().id


@pytest.mark.erratum("E-ACC-REL")
def test_a_connection_nobody_came_for_is_released_with_the_listener(pair, do):
    listener = pair.listening()
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()
    asked = pair.backend.await_request()
    closing = do(listener.close)
    release = pair.backend.await_request()
    accept(pair, asked)
    pair.backend.answer(release)
    second = pair.backend.await_request()
    assert second.cmd == raw.RELEASE
    assert second.id == int.from_bytes(asked.raw[16:24], "little")
    pair.backend.answer(second)
    closing.result()
    assert pair.frontend._device.live_rings() == []


@pytest.mark.erratum("E-ACC-REL")
def test_accept_that_asks_first_has_a_poll_waiting_and_no_accept(paired, do):
    """A RELEASE then meets no ACCEPT; what comes of the accept is the same."""
    pair = paired(poll_first=True)
    listener = pair.listening()
    accepting = do(listener.accept)
    for ret in (-4, 0):  # Interrupted, it asks again.
        poll = pair.backend.await_request()
        assert (poll.cmd, poll.id) == (raw.POLL, listener.id)
        assert pair.no_request()
        pair.backend.answer(poll, ret)
    ring = accept(pair, pair.backend.await_request())
    ring.produce("in", b"x")
    pair.backend.notify(ring.port)
    assert accepting.result()[0].recv(1) == b"x"

    accepting = do(listener.accept)
    assert pair.backend.await_request().cmd == raw.POLL
    pair.answered(listener.close)
    with pytest.raises(OSError, match="closed"):
        accepting.result()


@pytest.mark.erratum("E-ACC-REL")
def test_accept_that_asks_first_and_does_not_wait(paired, do):
    pair = paired(poll_first=True)
    listener = pair.listening()
    listener.settimeout(0)
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            listener.accept()
    poll = pair.backend.await_request()
    assert pair.no_request()
    pair.backend.answer(poll)
    accepting = do(listener.accept)
    accept(pair, pair.backend.await_request())
    accepting.result()


@pytest.mark.spec("BIND-2")
def test_accept_needs_a_listener(pair):
    with pytest.raises(OSError) as refused:
        pair.socket().accept()
    assert refused.value.errno == errno.EINVAL
    assert pair.no_request()


@pytest.mark.spec("LISTEN-2", "BIND-3", "BIND-4")
def test_bind_and_listen_say_what_they_are_asked(pair, do):
    socket = pair.socket()
    binding = do(socket.bind, ("127.0.0.1", 8080))
    asked = pair.backend.await_request()
    assert asked.raw[16:44] == raw.address("127.0.0.1", 8080)
    assert int.from_bytes(asked.raw[44:48], "little") == 16
    pair.backend.answer(asked)
    binding.result()
    listening = do(socket.listen, 7)
    asked = pair.backend.await_request()
    assert int.from_bytes(asked.raw[16:20], "little") == 7
    pair.backend.answer(asked, -98)
    with pytest.raises(OSError) as refused:
        listening.result()
    assert refused.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match="does not listen"):
        socket.accept()
