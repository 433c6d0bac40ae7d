"""A store that stands still, dies or comes again; a peer that stands still."""

from __future__ import annotations

import signal
import threading

import pytest

from refimpl.errors import StoreLost
from refimpl.frontend import Frontend
from refimpl.shm import ShmPlatform
from refimpl.store.client import StoreClient
from refimpl.testing.processes import End, backend, guest, store, use_every_command
from refimpl.toolstack import attach, introduce_domain_nodes

PATIENCE = 30.0


def give_device(directory: str, domid: int) -> None:
    client = StoreClient.connect(f"{directory}/0.socket")
    introduce_domain_nodes(client, domid)
    attach(client, domid)
    client.close()


def test_rings_need_no_store_and_calls_on_one_that_stands_still_end(folder, echo, do) -> None:
    directory = str(folder / "run")
    with End(store, directory) as storing:
        assert storing.heard() == "ready"
        with End(backend, directory) as serving:
            assert serving.heard() == "ready"
            with ShmPlatform.join(directory, arena_pages=1024, store_timeout=1.0) as platform:
                give_device(directory, platform.domid)
                with Frontend.open(platform, ring_order=1, timeout=PATIENCE) as frontend:
                    use_every_command(frontend, echo)  # By now nobody asks the store anything.
                    storing.signal(signal.SIGSTOP)
                    use_every_command(frontend, echo)
                    with pytest.raises(StoreLost):
                        platform.store.read(f"/local/domain/{platform.domid}/name")
                    storing.signal(signal.SIGCONT)


@pytest.mark.spec("STATE-10")
def test_a_store_that_dies_ends_all_and_all_starts_again_at_once(folder, echo, do) -> None:
    directory = str(folder / "run")
    for _ in range(2):
        with End(store, directory) as storing:
            assert storing.heard() == "ready"
            with End(backend, directory) as serving:
                assert serving.heard() == "ready"
                with ShmPlatform.join(directory, arena_pages=1024) as platform:
                    give_device(directory, platform.domid)
                    frontend = Frontend.open(platform, ring_order=1, timeout=PATIENCE)
                    use_every_command(frontend, echo)
                    blocked = frontend.create_connection(echo)
                    receiving = do(blocked.recv, 10)
                    storing.kill()
                    with pytest.raises(OSError):
                        receiving.result()
                    assert serving.wait() != 0
                    frontend.close(0)


@pytest.mark.security("SEC-F-10")
def test_a_backend_that_stands_still_is_timed_out_and_served_by_again(run, echo) -> None:
    platform = run.join()
    with End(backend, run.directory) as serving:
        assert serving.heard() == "ready"
        frontend = run.open(platform, timeout=3.0)
        serving.signal(signal.SIGSTOP)
        with pytest.raises(OSError):
            frontend.socket()
        serving.signal(signal.SIGCONT)
        frontend.close(0)
        with run.open(platform) as again:
            use_every_command(again, echo)


def test_a_guest_that_stands_still_stops_no_other(run, echo) -> None:
    platform = run.join()
    with End(backend, run.directory) as serving, End(guest, run.directory, echo) as standing:
        assert serving.heard() == "ready"
        run.attach(standing.heard())
        standing.go_on()
        standing.signal(signal.SIGSTOP)
        with run.open(platform) as frontend:
            for _ in range(5):
                use_every_command(frontend, echo)
        standing.signal(signal.SIGCONT)
        assert standing.heard() == "done"
        assert standing.wait() == 0


def test_a_signal_in_a_guest_that_waits_is_handled_and_the_wait_goes_on(run, echo) -> None:
    platform = run.join()
    handled = threading.Event()
    former = signal.signal(signal.SIGUSR1, lambda *_: handled.set())
    try:
        with End(backend, run.directory) as serving:
            assert serving.heard() == "ready"
            with run.open(platform) as frontend, frontend.create_connection(echo) as connection:
                connection.settimeout(PATIENCE)
                main = threading.main_thread().ident
                timer = threading.Timer(0.1, lambda: (signal.pthread_kill(main, signal.SIGUSR1), handled.wait()))
                answer = threading.Timer(0.3, lambda: (handled.wait(PATIENCE), connection.sendall(b"now")))
                timer.start(), answer.start()
                assert connection.recv(10) == b"now"
                assert handled.is_set()
                timer.join(), answer.join()
    finally:
        signal.signal(signal.SIGUSR1, former)
