"""Data rings that are kept for sockets to come, as RELEASE has promised."""

from __future__ import annotations

import pytest

from refimpl.errors import GrantRefused, PortRefused
from refimpl.testing import raw

REUSE = 16


def close(pair, do, socket, ret=0):
    """Close the socket at both ends; return what RELEASE had in ``reuse``."""
    closing = do(socket.close, 0.0)
    release = pair.backend.await_request()
    assert release.cmd == raw.RELEASE
    pair.backend.answer(release, ret)
    closing.result()
    return release.raw[REUSE]


def names_of(ring):
    return ring.ref, ring.indexes.refs(2)


@pytest.mark.spec("RELEASE-8")
@pytest.mark.erratum("E-REUSE")
def test_the_next_socket_has_exactly_the_grants_and_the_event_channel_that_were_promised(pair, do):
    socket, ring = pair.connected()
    first, port = names_of(ring), socket._connection.port
    assert close(pair, do, socket) == 1
    socket = pair.socket()
    connecting = do(socket.connect, ("192.0.2.1", 80))
    asked = pair.backend.await_request()
    again = pair.backend.map_data_ring(asked)
    assert names_of(again) == first
    assert asked.evtchn == port
    pair.backend.answer(asked)
    connecting.result()
    socket.sendall(b"through the same ring")
    assert bytes(again.data[4096 : 4096 + 21]) == b"through the same ring"
    _, other_ring = pair.connected()
    assert names_of(other_ring) != first


@pytest.mark.security("SEC-F-5", "SEC-F-8")
@pytest.mark.erratum("E-REUSE", "E-OWNIDX")
def test_it_is_as_new_whatever_the_last_connection_left_there(pair, do):
    socket, ring = pair.connected()
    first = names_of(ring)
    socket.sendall(b"canary")
    for word in range(1024):
        if ring.indexes.word(4 * word) != 6:  # out_prod: anything else there breaks the ring, and nothing is kept.
            ring.indexes.set_word(4 * word, 0)
    ring.data[:6] = b"canary"
    ring.indexes["in_prod"] = 6
    assert socket.recv(10) == b"canary"
    ring.indexes.set_word(raw.FIRST_REF, 0xFFFF)
    ring.indexes["ring_order"] = 9
    assert close(pair, do, socket) == 1
    _, again = pair.connected()
    assert names_of(again) == first
    assert again.indexes["ring_order"] == 1
    assert not any(again.data)
    assert not any(again.indexes.memory[:128])
    assert not any(again.indexes.memory[140:])


def test_a_ring_that_its_backend_broke_or_would_not_release_is_not_kept(pair, do):
    socket, ring = pair.connected()
    ring.indexes["in_prod"] = 2**31
    with pytest.raises(OSError, match="in_prod"):
        socket.recv(1)
    assert close(pair, do, socket) == 0
    socket, refused = pair.connected()
    assert close(pair, do, socket, ret=-5) == 1
    for ended in (ring, refused):
        pair.backend.let_go(ended)
        with pytest.raises(GrantRefused):
            pair.backend.platform.map(pair.backend.frontend_id, [ended.ref])


def test_a_smaller_ring_than_was_asked_for_is_not_kept(paired, do):
    pair = paired(ring_order=2)
    pair.frontend._device.ring_order = 1
    socket, _ = pair.connected()
    pair.frontend._device.ring_order = 2
    assert close(pair, do, socket) == 0


def test_no_more_are_promised_than_are_kept(paired, do):
    pair = paired(spare_rings=2)
    sockets = [pair.connected()[0] for _ in range(4)]
    assert [close(pair, do, socket) for socket in sockets] == [1, 1, 0, 0]


@pytest.mark.spec("STATE-10")
def test_they_are_given_back_with_the_device(pair, do):
    socket, ring = pair.connected()
    assert close(pair, do, socket) == 1
    pair.backend.let_go(ring)
    platform, guest = pair.backend.platform, pair.backend.frontend_id
    platform.map(guest, [ring.ref]).unmap()
    port = pair.frontend._device.spare_rings._rings[0].port
    pair.go_away()
    pair.until(lambda: not pair.frontend.is_open)
    pair.frontend.close(0.0)
    with pytest.raises(GrantRefused):
        platform.map(guest, [ring.ref])
    with pytest.raises(PortRefused):
        platform.bind(guest, port)
