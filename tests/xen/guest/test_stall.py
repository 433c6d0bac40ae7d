"""An event that finds nothing to send: Linux's backend, before 6.3, does not hear of what is sent after it."""

from __future__ import annotations

import time

import pytest
from faults import STALL

from refimpl.testing import HostileFrontend
from refimpl.testing.raw import address, connect_request, socket_request
from refimpl.xen import XenPlatform

ACTIVE = 0x6000
ECHO = address("127.0.0.1", 7001)


@pytest.mark.fault_of("back:linux-stock", reason=STALL)
def test_what_is_sent_after_an_empty_event_goes_out() -> None:
    with XenPlatform.open() as platform, HostileFrontend(platform) as front:
        front.set_state(1)  # From wherever the last frontend left it.
        front.connect()
        assert front.call(socket_request(1, ACTIVE)).ret == 0
        ring = front.make_data_ring()
        assert front.call(connect_request(2, ACTIVE, ECHO, ring.ref, ring.port)).ret == 0
        front.patience = 3
        for word in (b"first", b"second"):
            ring.produce("out", word)
            front.notify(ring.port)
            front.await_true(lambda: ring.indexes["out_cons"] == ring.indexes["out_prod"], f"sending of {word!r}")
            front.await_true(lambda: ring.indexes["in_prod"] != ring.indexes["in_cons"], f"echo of {word!r}")
            assert ring.consume("in") == word.upper()
            front.notify(ring.port)
            time.sleep(0.5)  # Until the backend has looked, and found nothing.
