"""Each end killed when the backend begins each step of each command: nobody hangs, nothing leaks, all starts again."""

from __future__ import annotations

import signal

import pytest

from refimpl.backend import Backend, Settings
from refimpl.commands import expanding
from refimpl.testing.processes import PLACES, POLICY, STEP_NAMES, STEPS, DiesAt, End, backend, guest, use_every_command


def test_the_list_of_steps_is_complete() -> None:
    assert {command for command, _ in STEPS} == {expanding.command_name(cmd) for cmd in expanding.COMMANDS}
    assert {step for _, step in STEPS} == STEP_NAMES
    assert len(STEPS) == 29
    assert len(PLACES) == 29 + len(expanding.COMMANDS)  # Each is decided first.


@pytest.mark.security("SEC-F-10")
@pytest.mark.parametrize(("command", "step"), PLACES)
def test_a_guest_outlives_a_backend_killed_at(run, echo, do, held, become, command: str, step: str) -> None:
    platform = run.join()
    idle = held(platform)
    with End(backend, run.directory, DiesAt(command, step)) as dying:
        assert dying.heard() == "ready"
        frontend = run.open(platform)
        using = do(use_every_command, frontend, echo)
        assert dying.wait() == -signal.SIGKILL
    with End(backend, run.directory) as next_one:  # At once; it finds the device as the dead one left it.
        assert next_one.heard() == "ready"
        with pytest.raises(OSError):
            using.result()
        frontend.close(0)
        with run.open(platform) as again:
            use_every_command(again, echo)
        become(idle, lambda: held(platform))  # Nothing more than before: grants, maps, ports.


@pytest.mark.security("SEC-B-19")
@pytest.mark.parametrize(("command", "step"), PLACES)
def test_a_backend_outlives_a_guest_killed_at(run, echo, do, held, become, command: str, step: str) -> None:
    observer = DiesAt(command, step)
    zero = run.join(0)
    serving = Backend(zero, Settings(policy=POLICY, observer=observer))
    serving.start()
    try:
        before = held(zero)
        with End(guest, run.directory, echo) as dying:
            observer.pid = dying.pid
            run.attach(dying.heard())
            dying.go_on()
            assert dying.wait() == -signal.SIGKILL
        become(before, lambda: held(zero))
        observer.pid = 0  # Nobody's turn any more.
    finally:
        serving.stop()


@pytest.mark.security("SEC-B-19")
def test_ends_that_die_again_and_again_cost_a_survivor_nothing(run, echo, descriptors) -> None:
    observer = DiesAt("CONNECT", "StartDataRing")
    zero = run.join(0)
    serving = Backend(zero, Settings(policy=POLICY, observer=observer))
    serving.start()
    counts = []
    for _ in range(6):
        with End(guest, run.directory, echo) as dying:
            observer.pid = dying.pid
            run.attach(dying.heard())
            dying.go_on()
            dying.wait()
        counts.append(descriptors())
    serving.stop()
    # A death not noticed yet, and what happens to be open at the moment; a leak would be 12 by now.
    assert max(counts[1:]) <= counts[1] + 8
