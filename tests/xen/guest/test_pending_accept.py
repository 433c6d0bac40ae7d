"""RELEASE of a listening socket with an ACCEPT outstanding: what Linux's backend does not survive."""

from __future__ import annotations

from refimpl.testing import HostileFrontend
from refimpl.testing.raw import (
    accept_request,
    address,
    bind_request,
    listen_request,
    release_request,
    socket_request,
)
from refimpl.xen import XenPlatform

LISTENER, EBADF = 0x4000, -9


def test_both_are_answered() -> None:
    with XenPlatform.open() as platform, HostileFrontend(platform) as front:
        front.set_state(1)  # From wherever the last frontend left it.
        front.connect()
        assert front.call(socket_request(1, LISTENER)).ret == 0
        assert front.call(bind_request(2, LISTENER, address("127.0.0.1", 7401))).ret == 0
        assert front.call(listen_request(3, LISTENER)).ret == 0
        ring = front.make_data_ring()
        front.patience = 5
        # At once: Linux's backend takes both before the accept's work item runs.
        front.push(accept_request(4, LISTENER, 0x5000, ring.ref, ring.port), release_request(5, LISTENER))
        assert front.await_response(5).ret == 0
        assert front.await_response(4).ret == EBADF
