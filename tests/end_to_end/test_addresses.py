"""What the protocol says of addresses, and what it does not."""

from __future__ import annotations

import socket

import pytest

from refimpl.testing.pair import shm_pair


@pytest.mark.erratum("E-ACC-PEER")
def test_accept_cannot_tell_who_came() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    with shm_pair(ring_order=1) as pair, pair.frontend.create_server(address) as listener:
        with socket.create_connection(address) as client:
            accepted, peer = listener.accept()
            with accepted:
                assert peer is None
                client.sendall(b"from somebody")
                assert accepted.recv(50) == b"from somebody"
        assert not hasattr(accepted, "getpeername")
