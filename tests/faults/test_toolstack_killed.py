"""The toolstack killed: who has a device does not notice, who comes waits for the next one."""

from __future__ import annotations

import pytest

from refimpl.cli.processes import Child
from refimpl.errors import DeviceGone
from refimpl.frontend import Frontend
from refimpl.shm import ShmPlatform
from refimpl.testing.processes import End, backend, use_every_command

PATIENCE = 30.0


def test_a_killed_toolstack_is_missed_by_newcomers_alone_and_another_serves_them(run, echo) -> None:
    serve = ("toolstack", "serve", "--run", run.directory)
    with End(backend, run.directory) as serving, Child(*serve, waits_until_ready=True) as killed:
        assert serving.heard() == "ready"
        with (
            ShmPlatform.join(run.directory, arena_pages=1024) as one,
            ShmPlatform.join(run.directory, arena_pages=1024) as two,
            Frontend.open(one, ring_order=1, timeout=PATIENCE, arrival_timeout=PATIENCE) as frontend,
            frontend.create_connection(echo) as connection,
        ):
            with Frontend.open(two, ring_order=1, timeout=PATIENCE, arrival_timeout=PATIENCE):
                killed.process.kill()
                killed.process.wait()
            connection.sendall(b"still here")
            assert connection.recv(64) == b"still here"
            use_every_command(frontend, echo)
            with ShmPlatform.join(run.directory, arena_pages=1024) as late:
                with pytest.raises(DeviceGone):
                    Frontend.open(late, ring_order=1, arrival_timeout=0.2)
                with Child(*serve, waits_until_ready=True):
                    with Frontend.open(late, ring_order=1, timeout=PATIENCE, arrival_timeout=PATIENCE) as again:
                        use_every_command(again, echo)
                    use_every_command(frontend, echo)
