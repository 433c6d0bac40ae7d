"""A frontend killed at each step of its life: the next one brings the device back from where it was left, and works."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from sockets import ECHO, FIRST_PORT, receive

from refimpl.commands.ring import NOTICE_BYTE
from refimpl.frontend import Frontend
from refimpl.testing import HostileFrontend
from refimpl.testing.hostile import CLOSING, CONNECTED, INIT_WAIT, INITIALISED
from refimpl.testing.raw import (
    accept_request,
    address,
    bind_request,
    connect_request,
    listen_request,
    poll_request,
    release_request,
    socket_request,
)
from refimpl.xen import XenPlatform

STEPS = (
    "granted",
    "published",
    "Initialised",
    "Connected",
    "SOCKET sent",
    "SOCKET answered",
    "CONNECT put, not notified",
    "CONNECT sent",
    "CONNECT answered",
    "data sent",
    "data here",
    "RELEASE sent",
    "listening",
    "POLL pending",
    "ACCEPT pending",
    "Closing",
)


def live(platform: XenPlatform) -> Iterator[str]:
    """A frontend's life, byte by byte; yields the name of each step when it is done."""
    front = HostileFrontend(platform)
    front.commands.memory[NOTICE_BYTE] = 1
    front._grant.leave_notice(clear_byte=NOTICE_BYTE, send_event=front.port)
    yield "granted"
    front.await_state(INIT_WAIT)
    front.write_node("version", b"1")
    front.write_node("ring-ref", front.ring_ref)
    front.write_node("port", front.port)
    yield "published"
    front.set_state(INITIALISED)
    yield "Initialised"
    front.await_state(CONNECTED)
    front.set_state(CONNECTED)
    yield "Connected"
    front.push(socket_request(1, 0x10))
    yield "SOCKET sent"
    assert front.await_response(1).ret == 0
    yield "SOCKET answered"
    ring = front.make_data_ring(4)
    front.push(connect_request(2, 0x10, address(*ECHO), ring.ref, ring.port), notify=False)
    yield "CONNECT put, not notified"
    front.notify()
    yield "CONNECT sent"
    assert front.await_response(2).ret == 0
    yield "CONNECT answered"
    ring.produce("out", bytes(30_000))
    front.notify(ring.port)
    yield "data sent"
    front.await_true(lambda: ring.indexes["in_prod"] != 0, "echo")
    yield "data here"
    front.push(release_request(3, 0x10))
    yield "RELEASE sent"
    assert front.await_response(3).ret == 0
    listener = address("127.0.0.1", FIRST_PORT + 20)
    for slot in (socket_request(4, 0x20), bind_request(5, 0x20, listener), listen_request(6, 0x20)):
        assert front.call(slot).ret == 0
    yield "listening"
    front.push(poll_request(7, 0x20))
    yield "POLL pending"
    other = front.make_data_ring(4)
    front.push(accept_request(8, 0x20, 0x21, other.ref, other.port))
    yield "ACCEPT pending"
    front.set_state(CLOSING)
    yield "Closing"


def die_after(step: str) -> None:
    """In a child of its own: live until the step is done, then be killed."""
    child = os.fork()
    if child == 0:
        try:
            for done in live(XenPlatform.open()):
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), f"it did not come as far as {step!r}"


@pytest.mark.parametrize("step", STEPS)
def test_next_frontend_works(step: str) -> None:
    with XenPlatform.open() as platform:
        platform.store.write("device/pvcalls/0/state", b"1")  # Where a frontend starts that closed in order.
    die_after(step)
    with (
        XenPlatform.open() as platform,
        Frontend.open(platform) as frontend,
        frontend.create_connection(ECHO, timeout=20) as connection,
    ):
        connection.sendall(b"next")
        assert receive(connection, 4) == b"NEXT"
