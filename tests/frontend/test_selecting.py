"""Waiting for any of several sockets."""

from __future__ import annotations

import pytest

from refimpl.errors import Misuse
from refimpl.frontend import Frontend, wait_for_any, wait_readable, wait_writable
from refimpl.testing import HostileBackend, raw
from refimpl.testing.hostile import CLOSING
from refimpl.toolstack import attach

HALF = 4096


def put(pair, ring, data):
    ring.produce("in", data)
    pair.backend.platform.fences.full()
    pair.backend.notify(ring.port)


@pytest.mark.spec("POLL-2")
def test_all_that_are_readable_and_only_those(pair, do):
    (first, one), (second, two), (third, _) = pair.connected(), pair.connected(), pair.connected()
    together = [first, second, third]
    assert wait_readable(together, 0) == []
    waiting = do(wait_readable, together)
    put(pair, two, b"x")
    assert waiting.result() == [second]
    one.indexes["in_error"] = -107
    assert wait_readable(together) == [first, second]
    assert second.recv(1) == b"x"
    assert wait_readable(together) == [first]
    assert pair.no_request()


def test_writable_is_any_space(pair, do):
    (first, one), (second, two) = pair.connected(), pair.connected()
    assert wait_writable([first, second]) == [first, second]
    for socket in (first, second):
        socket.sendall(bytes(HALF))
    assert wait_writable([first, second], 0.01) == []
    waiting = do(wait_writable, [first, second])
    two.consume("out")
    pair.backend.notify(two.port)
    assert waiting.result() == [second]
    assert wait_for_any([first], [second]) == ([], [second])
    one.indexes["out_error"] = -32
    assert wait_for_any((first,), (first, second)) == ([], [first, second])


@pytest.mark.spec("POLL-3")
def test_connections_and_listeners_together(pair, do):
    listener = pair.listening()
    socket, ring = pair.connected()
    waiting = do(wait_readable, [listener, socket])
    poll = pair.backend.await_request()
    assert poll.cmd == raw.POLL
    put(pair, ring, b"x")
    assert waiting.result() == [socket]
    pair.backend.answer(poll)
    assert wait_readable([listener]) == [listener]


def test_the_first_of_two_listeners(pair, do):
    listeners = [pair.listening(), pair.listening()]
    waiting = do(wait_readable, listeners)
    polls = pair.await_commands(2)
    pair.backend.answer(next(each for each in polls if each.id == listeners[1].id))
    assert waiting.result() == [listeners[1]]


def test_a_poll_answered_with_an_error_is_for_accept_to_raise(pair, do):
    listener = pair.listening()
    waiting = do(wait_readable, [listener])
    pair.backend.answer(pair.backend.await_request(), -9)
    assert waiting.result() == [listener]
    with pytest.raises(OSError) as refused:
        listener.accept()
    assert refused.value.error_number == -9


def test_what_can_never_be_ready_is_ready(pair):
    unconnected = pair.socket()
    assert wait_for_any([unconnected], [unconnected]) == ([unconnected], [unconnected])
    pair.answered(unconnected.close)
    assert wait_readable([unconnected]) == [unconnected]
    with pytest.raises(Misuse):
        wait_readable([])


def test_all_are_ready_when_the_device_is_gone(pair, do):
    listener, (socket, _) = pair.listening(), pair.connected()
    waiting = do(wait_readable, [listener, socket])
    pair.backend.await_request()
    pair.go_away()
    assert waiting.result() == [listener, socket]


def test_sockets_of_two_domains_cannot_be_waited_for_together(pair, do):
    machine, guest = pair.machine, pair.machine.join()
    attach(machine.zero.store, guest.domid)
    with HostileBackend(machine.zero, guest.domid) as backend:
        backend.publish()
        opening = do(Frontend.open, guest)
        backend.connect()
        other = opening.result()
        opening = do(other.socket)
        backend.answer(backend.await_request())
        with pytest.raises(Misuse, match="more than one domain"):
            wait_readable([pair.socket(), opening.result()])
        backend.set_state(CLOSING)
        other.close()
