"""The host's process: started, stopped, killed; and everything killed at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from refimpl.errors import DomainClosed, PlatformUnavailable, StoreLost
from refimpl.shm import Host, ShmPlatform, find_stale_runs
from refimpl.store.client import StoreClient

PATIENCE = 30.0

SERVE = """
import sys
from refimpl.shm import serve
serve(sys.argv[1], started=lambda host: print(host.hypervisor.run, host.store_path, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_served_run_ends_with_a_signal_and_leaves_nothing(run_directory, names, number) -> None:
    command = [sys.executable, "-c", SERVE, str(run_directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host, ExitStack() as stack:
        stack.callback(host.kill)
        run, path = host.stdout.readline().split()
        assert path == str(run_directory / "0.socket")
        with ShmPlatform.join(run_directory, domid=0, arena_pages=64) as platform:
            platform.store.write("/tool", b"1")
            host.send_signal(number)
            assert host.wait(PATIENCE) == 0
            # Somebody is in the run still.
            assert names(run) == [f"pvcalls-{run}-anchor"]
    assert names(run) == []
    assert not run_directory.exists()


def test_stop_before_run_counts(run_directory) -> None:
    with Host(run_directory) as host:
        host.stop()
        host.stop()
        host.run()
    host.stop()


def test_killed_host_is_noticed_and_can_be_started_again(run_directory, names, host_process) -> None:
    with host_process(run_directory) as host:
        first = host.run("host.hypervisor.run")
        with ShmPlatform.join(run_directory, domid=0, arena_pages=64) as platform:
            lost = threading.Event()
            platform.store.on_lost(lost.set)
            host.kill()
            assert lost.wait(PATIENCE)
            with pytest.raises(StoreLost):
                platform.store.read("/local")
            with pytest.raises(PlatformUnavailable):
                ShmPlatform.join(run_directory)
            with host_process(run_directory) as again:
                second = again.run("host.hypervisor.run")
                assert second != first
                assert f"pvcalls-{first}-anchor" in names(first)  # of a run that somebody is in
                with ShmPlatform.join(run_directory, domid=0, arena_pages=64) as anew:
                    anew.store.write("/tool", b"1")
                again.run("host.stop(); thread.join(); host.close()")
    assert names(first) == []
    assert names(second) == []


def test_killed_domain_leaves_nothing(run_directory, names, host_process, domain_process) -> None:
    with host_process(run_directory) as host:
        run = host.run("host.hypervisor.run")
        with domain_process(run_directory) as domain:
            domain.run("grant = platform.grant(0, 8); port = platform.allocate_unbound(0)")
            domain.kill()
        toolstack = StoreClient.connect(host.run("host.store_path"))
        while toolstack.is_introduced(1):
            pass
        toolstack.close()
        assert names(run) == [f"pvcalls-{run}-anchor"]
        host.run("host.stop(); thread.join(); host.close()")
    assert names(run) == []


def test_all_killed_at_once_is_cleaned_by_the_next_start(run_directory, cleaned, host_process, domain_process) -> None:
    with host_process(run_directory) as host, domain_process(run_directory, 0) as backend:
        run = host.run("host.hypervisor.run")
        with domain_process(run_directory) as guest:
            for each in (host, backend, guest):
                each.kill()
    other = run_directory.with_name("elsewhere")
    with Host(other):
        cleaned(run)
        assert not run_directory.exists()
    with Host(run_directory):
        pass


def test_doctor_finds_what_is_left_and_removes_it(run_directory, cleaned, host_process) -> None:
    with host_process(run_directory) as host:
        run = host.run("host.hypervisor.run")
        assert run not in [stale.run for stale in find_stale_runs()]
        host.kill()
    # Another test's start may be quicker.
    for stale in find_stale_runs():
        if stale.run == run:
            assert stale.directory == str(run_directory)
    cleaned(run)


def test_last_domain_cleans_up_after_a_killed_host(run_directory, names, host_process) -> None:
    with host_process(run_directory) as host:
        run = host.run("host.hypervisor.run")
        first = ShmPlatform.join(run_directory, domid=0, arena_pages=64)
        second = ShmPlatform.join(run_directory, arena_pages=64)
        host.kill()
    first.close()
    assert f"pvcalls-{run}-anchor" in names(run)
    second.close()
    assert names(run) == []
    assert not run_directory.exists()


def test_domain_of_an_ended_run_says_so(run) -> None:
    guest = run.join()
    run.stop()
    with pytest.raises(DomainClosed):
        guest._domain.control.call({"call": "leave"})
