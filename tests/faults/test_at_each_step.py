"""Each end stopped, and the backend out of descriptors, when the backend begins each step of each command."""

from __future__ import annotations

import errno
import signal
import threading
from pathlib import Path

import pytest

from refimpl.backend import Backend, Settings
from refimpl.testing.processes import PLACES, POLICY, CrowdsAt, DiesAt, End, backend, guest, use_every_command

#: What a backend without descriptors may answer.
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.security("SEC-F-10")
@pytest.mark.parametrize(("command", "step"), PLACES)
def test_a_guests_calls_end_when_the_backend_stops_at(run, echo, do, held, become, command: str, step: str) -> None:
    platform = run.join()
    idle = held(platform)
    with End(backend, run.directory, DiesAt(command, step, None, signal.SIGSTOP)) as stopping:
        assert stopping.heard() == "ready"
        frontend = run.open(platform, timeout=1.5)
        using = do(use_every_command, frontend, echo, 0.3)
        become("T", lambda: process_state(stopping.pid))
        # The calls end at their time-outs; a RELEASE has more patience where a CONNECT is under way (E-ORDER).
        threading.Timer(1.4 if command == "CONNECT" else 2.2, stopping.signal, [signal.SIGCONT]).start()
        with pytest.raises(OSError):
            using.result()
        become(True, lambda: process_state(stopping.pid) != "T")
        frontend.close(0)
        with run.open(platform) as again:
            use_every_command(again, echo)
        become(idle, lambda: held(platform))


@pytest.mark.security("SEC-B-14", "SEC-B-19")
@pytest.mark.parametrize(("command", "step"), PLACES)
def test_another_is_served_while_a_guest_is_stopped_at(run, echo, held, become, command: str, step: str) -> None:
    observer = DiesAt(command, step, 0, signal.SIGSTOP)
    zero, other = run.join(0), run.join()
    serving = Backend(zero, Settings(policy=POLICY, observer=observer))
    serving.start()
    try:
        with run.open(other) as frontend, End(guest, run.directory, echo) as stopping:
            before = held(zero)
            observer.pid = stopping.pid
            run.attach(stopping.heard())
            stopping.go_on()
            become("T", lambda: process_state(stopping.pid))
            use_every_command(frontend, echo)
            stopping.signal(signal.SIGCONT)
            assert stopping.heard() == "done"
            assert stopping.wait() == 0
            become(before, lambda: held(zero))
    finally:
        serving.stop()


@pytest.mark.spec("SOCKET-7", "ACCEPT-15")
@pytest.mark.security("SEC-B-6", "SEC-B-9")
@pytest.mark.parametrize(("command", "step"), PLACES)
def test_a_call_is_refused_or_done_when_descriptors_are_out_at(run, echo, held, become, command, step) -> None:
    platform, other = run.join(), run.join()
    with End(backend, run.directory, CrowdsAt(platform.domid, command, step)) as serving:
        assert serving.heard() == "ready"
        with run.open(platform) as frontend, run.open(other) as beside, beside.create_connection(echo) as connection:
            idle = held(platform)
            for _ in range(3):
                try:
                    use_every_command(frontend, echo)
                except OSError as error:
                    assert error.errno in SCARCE, error
            connection.sendall(b"still here")
            assert connection.recv(64) == b"still here"
            become(idle, lambda: held(platform))
