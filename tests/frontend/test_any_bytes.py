"""Whatever a backend writes, wherever: calls end with a result or an OSError, and nothing else breaks."""

from __future__ import annotations

import random

import pytest

from refimpl.errors import DeviceGone
from refimpl.frontend import wait_for_any
from refimpl.testing import raw
from refimpl.testing.hostile import CLOSED

HALF = 4096
INTERESTING = [0, 1, 2, 31, 32, 33, HALF - 1, HALF, HALF + 1, 2**31 - 1, 2**31, 2**32 - HALF, 2**32 - 107, 2**32 - 1]


def anything(generator):
    return generator.choice([*INTERESTING, generator.getrandbits(32), generator.getrandbits(13)])


def use(socket, generator):
    """Make one call that does not wait."""
    call = generator.randrange(5)
    if call == 0:
        assert len(socket.recv(2 * HALF)) <= HALF
    elif call == 1:
        assert socket.recv_into(bytearray(generator.randrange(1, 2 * HALF))) <= HALF
    elif call == 2:
        assert 0 < socket.send(bytes(generator.randrange(1, 2 * HALF))) <= HALF
    elif call == 3:
        socket.sendall(bytes(generator.randrange(1, 100)))
    else:
        wait_for_any([socket], [socket], 0)


@pytest.mark.security("SEC-F-6", "SEC-F-7")
@pytest.mark.erratum("E-IDXBAD", "E-OWNIDX")
@pytest.mark.parametrize("seed", range(6))
def test_any_word_of_the_indexes_page(pair, do, seed):
    generator = random.Random(seed)
    for _ in range(8):
        socket, ring = pair.connected()
        socket.settimeout(0)
        for _ in range(60):
            ring.indexes.set_word(4 * generator.randrange(40), anything(generator))
            if generator.random() < 0.3:
                pair.backend.notify(ring.port)
            try:
                use(socket, generator)
            except DeviceGone:
                raise
            except OSError:
                continue
        closing = do(socket.close, 0.0)
        pair.backend.answer(pair.backend.await_request())
        closing.result()
    assert pair.frontend.is_open
    assert not pair.frontend._device.live_rings()


@pytest.mark.security("SEC-F-1", "SEC-F-3", "SEC-F-4")
@pytest.mark.parametrize("seed", range(12))
def test_any_response(pair, do, seed):
    generator = random.Random(seed)
    for _ in range(20):
        opening = do(pair.frontend.socket)
        asked = pair.backend.await_request()
        fields = {"req_id": asked.req_id, "cmd": asked.cmd, "ret": 0, "id": asked.id}
        name = generator.choice([*fields, "pad"])
        value = anything(generator)
        fields[name] = value - 2**32 if name == "ret" and value >= 2**31 else value
        pair.backend.respond(raw.response(**fields))
        try:
            opening.result()
        except DeviceGone:
            pair.backend.set_state(CLOSED)
            return
        except OSError:
            assert name == "ret"


@pytest.mark.security("SEC-F-1", "SEC-F-2")
@pytest.mark.parametrize("seed", range(12))
def test_any_word_of_the_commands_ring(pair, do, seed):
    generator = random.Random(seed)
    for _ in range(20):
        opening = do(pair.frontend.socket)
        asked = pair.backend.await_request()
        for _ in range(3):
            pair.backend.commands.set_word(4 * generator.randrange(16), anything(generator))
        pair.backend.notify()
        pair.backend.commands["rsp_prod"] = pair.backend.req_cons - 1
        pair.backend.answer(asked)
        try:
            opening.result()
        except DeviceGone:
            return
        except OSError as error:
            pytest.fail(f"{error!r} of a request answered with 0")


@pytest.mark.security("SEC-F-15")
def test_a_backend_sees_and_says_what_it_likes(pair):
    """Nothing here can tell; whoever must not trust it speaks TLS above."""
    socket, ring = pair.connected()
    socket.sendall(b"a secret")
    assert ring.consume("out") == b"a secret"
    ring.produce("in", b"what the peer never sent")
    pair.backend.notify(ring.port)
    assert socket.recv(100) == b"what the peer never sent"
