"""The hypervisor's stand-in: joins, refusals, deaths, and callers with no manners."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import posix_ipc
import pytest

from refimpl.errors import DomainClosed, PermissionRefused, PlatformUnavailable, StoreLost
from refimpl.platform import PAGE_SIZE
from refimpl.shm import Host, ShmPlatform, control, hypervisor
from refimpl.shm.control import Message, receive_message, send_message
from refimpl.shm.names import object_name
from refimpl.shm.segments import TABLES, create_segment
from refimpl.store.client import StoreClient

PATIENCE = 30.0
PAGES = 16


class Caller:
    """A connection to the control socket that says what it likes."""

    def __init__(self, run) -> None:
        self.run = run
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(run.directory / "control"))

    def call(self, message: Message, *descriptors: int) -> Message:
        send_message(self.socket, message, descriptors)
        answer, received = receive_message(self.socket)
        control.close_all(received)
        return answer

    def join(self, domid: object = None) -> Message:
        process = os.pidfd_open(os.getpid())
        try:
            return self.call({"call": "join", "domid": domid}, process)
        finally:
            os.close(process)

    @contextmanager
    def segments(self, page_count: int = PAGES, tables_size: int = TABLES.itemsize) -> Iterator[tuple[int, int]]:
        arena, arena_for_reading = create_segment(object_name(self.run.id, "9999a"), page_count * PAGE_SIZE)
        tables, tables_for_reading = create_segment(object_name(self.run.id, "9999t"), tables_size)
        try:
            yield arena, tables_for_reading
        finally:
            control.close_all([arena, arena_for_reading, tables, tables_for_reading])

    def enter(self) -> Message:
        with self.segments() as (arena, tables):
            return self.call({"call": "enter", "page_count": PAGES}, arena, tables)

    def is_hung_up_on(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True


@pytest.fixture
def caller(run):
    made = Caller(run)
    with made.socket:
        yield made


def test_join_gives_domid_incarnation_and_names(run, caller, names) -> None:
    answer = caller.join()
    assert answer == {"domid": 1, "incarnation": 1, "run": run.id, "semaphore": object_name(run.id, "1s")}
    assert f"sem.pvcalls-{run.id}-1s" in names(run.id)
    assert caller.enter() == {"store": str(run.directory / "1.socket")}
    assert caller.call({"call": "leave"}) == {}
    assert names(run.id) == [f"pvcalls-{run.id}-anchor"]


def test_domid_of_a_living_process_is_refused(run) -> None:
    first = run.join(0)
    with pytest.raises(PermissionRefused, match="domain 0 lives already"):
        run.join(0)
    first.close()
    run.join(0)


@pytest.mark.parametrize("domid", [-1, 0x7FF0, 2**40, True, "1", 1.0, [1]])
def test_domid_that_cannot_be_is_refused(caller, domid) -> None:
    assert "a domid is" in caller.join(domid)["refused"]
    assert caller.join(5)["domid"] == 5


@pytest.mark.parametrize("message", [{}, {"call": None}, {"call": ["join"]}, {"call": "close"}])
def test_no_such_call(caller, message) -> None:
    assert caller.call(message) == {"refused": "there is no such call"}


def test_calls_out_of_order_are_refused(caller) -> None:
    for call in ("enter", "peer", "leave"):
        assert "has no domain" in caller.call({"call": call})["refused"]
    caller.join()
    assert "joins once" in caller.join()["refused"]
    caller.enter()
    assert "enters once" in caller.enter()["refused"]
    caller.call({"call": "leave"})
    assert "has no domain" in caller.call({"call": "leave"})["refused"]


def test_only_ones_own_pidfd_is_a_proof(caller, process) -> None:
    assert "joins once" in caller.call({"call": "join"})["refused"]
    other = os.pidfd_open(process.pid)
    try:
        assert "its own pidfd" in caller.call({"call": "join"}, other)["refused"]
    finally:
        os.close(other)
    with open("/dev/null", "rb") as null:
        assert "its own pidfd" in caller.call({"call": "join"}, null.fileno())["refused"]
        assert "joins once" in caller.call({"call": "join"}, null.fileno(), null.fileno())["refused"]


@pytest.mark.parametrize("page_count", [None, 0, 8, 2**18 + 1, True, "16", 16.0, 15, 17])
def test_arena_of_another_size_is_refused(caller, page_count) -> None:
    caller.join()
    with caller.segments() as segments:
        assert "refused" in caller.call({"call": "enter", "page_count": page_count}, *segments)
    assert "store" in caller.enter()


def test_what_is_no_segment_is_refused(caller) -> None:
    caller.join()
    with caller.segments() as (arena, tables), open("/dev/null", "rb") as null:
        for descriptors in ((), (arena,), (tables, arena), (arena, null.fileno()), (null.fileno(), tables)):
            assert "refused" in caller.call({"call": "enter", "page_count": PAGES}, *descriptors)
    with caller.segments(tables_size=TABLES.itemsize - 1) as segments:
        assert "are not the segments" in caller.call({"call": "enter", "page_count": PAGES}, *segments)["refused"]


@pytest.mark.parametrize("domid", [None, 2, 77, -1, True, "0", 0.0, [0], {}])
def test_peer_that_is_not_there(run, caller, domid) -> None:
    run.join(0)
    caller.join(1)
    other = Caller(run)
    with other.socket:
        other.join(2)  # and does not enter
        assert caller.call({"call": "peer", "domid": domid}) == {"refused": "there is no such domain"}
    assert caller.call({"call": "peer", "domid": 0})["page_count"] == 512


@pytest.mark.parametrize("data", [b"x", b"[]", b"{" * 5000])
def test_nonsense_is_hung_up_on(run, caller, data) -> None:
    caller.socket.send(data)
    assert caller.is_hung_up_on()
    run.join()


def test_caller_that_does_not_read_is_hung_up_on(run, caller) -> None:
    caller.join()
    caller.socket.setblocking(False)
    try:
        for _ in range(100_000):
            try:
                caller.socket.send(b'{"call": "peer", "domid": 5}')
            except BlockingIOError:
                run.join().close()  # all others are served meanwhile
    except ConnectionError:
        pass
    else:
        raise AssertionError("it may send for ever and read nothing")
    # It had not entered: its domid is free again.
    assert run.join(1).domid == 1


def test_connections_end_is_no_death(run, caller) -> None:
    caller.join(7)
    caller.enter()
    caller.socket.close()
    watcher = run.join(0)
    with pytest.raises(PermissionRefused, match="domain 7 lives already"):
        run.join(7)
    assert watcher.store.is_introduced(7)


def test_connections_end_before_entering_ends_the_domain(run, names) -> None:
    with Caller(run).socket as first:
        caller = Caller.__new__(Caller)
        caller.run, caller.socket = run, first
        caller.join(7)
        assert f"sem.pvcalls-{run.id}-1s" in names(run.id)
    # The next caller's join comes after that end.
    assert run.join(7).domid == 7
    assert f"sem.pvcalls-{run.id}-1s" not in names(run.id)


def test_death_at_any_step_of_joining_leaves_no_name(run, names, process, domain_process) -> None:
    steps = [
        "import os; from refimpl.shm.control import Control; from refimpl.shm.names import object_name",
        f"control = Control({str(run.directory)!r})",
        'answer, _ = control.call({"call": "join", "domid": 9}, [os.pidfd_open(os.getpid())])',
        "import posix_ipc; semaphore = posix_ipc.Semaphore(answer['semaphore'])",
        "name = object_name(answer['run'], f'{answer[\"incarnation\"]}a')",
        "segment = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=4096)",
    ]
    for step in steps:
        process.run(step)
    assert len(names(run.id)) == 3
    process.kill()
    with domain_process(run.directory, 9) as domain:
        assert domain.run("platform.domid") == 9
        assert names(run.id) == [f"pvcalls-{run.id}-anchor", f"sem.pvcalls-{run.id}-2s"]


def test_dead_domids_can_be_had_again_at_once(run, domain_process) -> None:
    for _ in range(5):
        with domain_process(run.directory, 0) as domain:
            assert domain.run("platform.domid") == 0
            domain.kill()
    assert run.join(0).domid == 0


def test_guest_is_known_to_xenstore_while_it_lives(run) -> None:
    tools = run.join(0)
    guest = run.join()
    assert tools.store.is_introduced(guest.domid)
    guest.close()
    assert not tools.store.is_introduced(guest.domid)
    assert not (run.directory / f"{guest.domid}.socket").exists()


def test_nothing_to_wake_a_domain_by_is_a_refusal(run, monkeypatch) -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device"), posix_ipc.ExistentialError("it exists")):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(hypervisor, "Incarnation", fail)
            with pytest.raises(PermissionRefused, match="nothing to wake it by"):
                run.join(7)
    run.join(7)


def test_domain_that_xenstore_cannot_serve_is_refused(run, names) -> None:
    (run.directory / "7.socket").mkdir()
    with pytest.raises(PermissionRefused, match="xenstore cannot serve it"):
        run.join(7)
    assert names(run.id) == [f"pvcalls-{run.id}-anchor"]
    (run.directory / "7.socket").rmdir()
    run.join(7)


def test_death_not_noticed_yet_does_not_keep_a_domid(run, process, monkeypatch) -> None:
    monkeypatch.setattr(hypervisor.Hypervisor, "_on_death", lambda *_: None)
    process.run("from refimpl.shm import ShmPlatform")
    process.run(f"platform = ShmPlatform.join({str(run.directory)!r}, domid=7, arena_pages=64)")
    process.kill()
    assert run.join(7).domid == 7


def test_domain_0_is_always_known_to_xenstore(run) -> None:
    toolstack = StoreClient.connect(run.host.store_path)
    try:
        assert toolstack.is_introduced(0)
        backend = run.join(0)
        assert backend.store.is_introduced(0)
        backend.close()
        assert toolstack.is_introduced(0)
    finally:
        toolstack.close()


def test_end_of_the_run_is_noticed(run) -> None:
    domain = run.join(0)
    run.stop()
    with pytest.raises(StoreLost):
        domain.store.read("/")
    with pytest.raises(DomainClosed, match="hypervisor is gone"):
        domain._domain.control.call({"call": "peer", "domid": 1})
    with pytest.raises(PlatformUnavailable):
        run.join()


def test_forked_child_of_the_host_does_not_keep_the_door_open(run, forked_child) -> None:
    with forked_child():
        run.stop()
        with pytest.raises(PlatformUnavailable):
            ShmPlatform.join(run.directory)


def test_out_of_descriptors_callers_wait_for_their_turn(run_directory, host_process, domain_process) -> None:
    with host_process(run_directory) as host:
        host.run("import os, resource")
        host.run("limit = len(os.listdir('/proc/self/fd')) + 12")
        host.run("resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))")
        crowd = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(30)]
        for connection in crowd:
            connection.connect(str(run_directory / "control"))
        used = host.run("resource.getrusage(resource.RUSAGE_SELF).ru_utime")
        assert host.run("__import__('time').sleep(0.2)") is None
        # The queue is left alone, not looked at over and over.
        assert host.run("resource.getrusage(resource.RUSAGE_SELF).ru_utime") - used < 0.1
        for connection in crowd:
            connection.close()
        with domain_process(run_directory) as domain:
            assert domain.run("platform.domid") == 1


def test_two_runs_do_not_share_anything(run, run_directory) -> None:
    directory = run_directory.with_name("other")
    with Host(directory) as other:
        assert other.hypervisor.run != run.id
        assert run.join().domid == 1
    assert not directory.exists()


def test_second_host_in_the_directory_is_refused_and_harms_nobody(run) -> None:
    with pytest.raises(PlatformUnavailable, match="a run lives in"):
        Host(run.directory)
    assert run.join(0).store.is_introduced(0)
