"""Real ends in processes of their own, which can be killed: a store with its hypervisor, a backend, a guest.

::

    for command, step in STEPS:                          # every step of every command, from the commands themselves
        with End(backend, run, DiesAt(command, step)) as end:
            ...                                          # it kills itself when it comes to that step

Each is forked from one small server process that has imported everything, so that starting one costs milliseconds.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Self

from refimpl.backend import Backend, Policy, Rule, Settings
from refimpl.backend.observer import Observer
from refimpl.commands import expanding, steps
from refimpl.commands.steps import SocketState
from refimpl.frontend import Frontend, wait_readable
from refimpl.shm import Host, ShmPlatform
from refimpl.shm.names import remove_stale_runs
from refimpl.testing import raw

#: Seconds after which what should have happened is called lost.
PATIENCE = 30.0
_ARENA_PAGES = 1024
#: A connect there fails at once, and nothing is sent.
_NOWHERE = ("255.255.255.255", 1)
_MESSAGE = b"a message that is longer than nothing " * 100

#: What our backends go by: the defaults, and a rule for the servers that tests have on loopback.
POLICY = Policy([Rule.parse("connect:127.0.0.1", allow=True)])

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


#: A request of each command, and the state of the socket that it needs.
_REQUESTS = (
    (raw.socket_request(1, 1), SocketState.CREATED),
    (raw.connect_request(1, 1, raw.address("127.0.0.1", 1), 8, 1), SocketState.CREATED),
    (raw.release_request(1, 1), SocketState.CONNECTED),
    (raw.bind_request(1, 1, raw.address("127.0.0.1", 1)), SocketState.CREATED),
    (raw.listen_request(1, 1), SocketState.BOUND),
    (raw.accept_request(1, 1, 2, 8, 1), SocketState.LISTENING),
    (raw.poll_request(1, 1), SocketState.LISTENING),
)


def _steps_of(slot: bytes, state: SocketState) -> Iterator[tuple[str, str]]:
    """Run a command with answers that let it go on; give its name and that of each step it takes."""
    request, taken = expanding.decode(slot)
    try:
        step = next(taken)
        while True:
            yield expanding.command_name(request.cmd), type(step).__name__
            step = taken.send(SimpleNamespace(id=1, state=state))
    except StopIteration:
        return


#: Every step of every command, in order: (command, step), by their names.
STEPS = tuple(step for slot, state in _REQUESTS for step in _steps_of(slot, state))
#: What comes before a command's first step: the policy's decision.
DECISION = "decision"
#: Where something can happen to an end: each command's decision, then its steps.
PLACES = tuple(dict.fromkeys(place for step in STEPS for place in ((step[0], DECISION), step)))
#: Every kind of step there is.
STEP_NAMES = frozenset(step.__name__ for step in steps.Step.__args__)


class DiesAt(Observer):
    """Kills a process, its own if not told otherwise, when one of :data:`PLACES` is come to: a step, or the decision.

    Or sends it another signal, SIGSTOP. Once: then ``pid`` is 0, nobody's, until it is set again.
    """

    def __init__(self, command: str, step: str, pid: int | None = None, number: int = signal.SIGKILL) -> None:
        self._where = (command, step)
        self._number = number
        self.pid = pid

    def request_taken(self, guest: int, request: Any) -> None:
        """See :meth:`Observer.request_taken`."""
        self._come_to(request, DECISION)

    def step_begun(self, guest: int, request: Any, step: steps.Step) -> None:
        """See :meth:`Observer.step_begun`."""
        self._come_to(request, type(step).__name__)

    def _come_to(self, request: Any, place: str) -> None:
        if self.pid != 0 and (expanding.command_name(request.cmd), place) == self._where:
            pid, self.pid = self.pid, 0
            if pid is None:
                signal.pthread_kill(threading.get_ident(), self._number)  # Else this thread may get away for a while.
            else:
                os.kill(pid, self._number)


class CrowdsAt(Observer):
    """Leaves its process no descriptor from one of :data:`PLACES` in a guest's command on until the response."""

    def __init__(self, guest: int, command: str, step: str) -> None:
        self._where = (guest, command, step)
        self._former: tuple[int, int] | None = None

    def request_taken(self, guest: int, request: Any) -> None:
        """See :meth:`Observer.request_taken`."""
        self._come_to(guest, request, DECISION)

    def step_begun(self, guest: int, request: Any, step: steps.Step) -> None:
        """See :meth:`Observer.step_begun`."""
        self._come_to(guest, request, type(step).__name__)

    def _come_to(self, guest: int, request: Any, place: str) -> None:
        if (guest, expanding.command_name(request.cmd), place) == self._where and self._former is None:
            self._former = resource.getrlimit(resource.RLIMIT_NOFILE)
            lowest_free = os.dup(0)
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, self._former[1]))

    def response_put(self, guest: int, request: Any, ret: int, reason: str) -> None:
        """See :meth:`Observer.response_put`."""
        if self._former is not None and guest == self._where[0]:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._former)
            self._former = None


class End:
    """A process that plays ``role(report, *arguments)``; ``report(value)`` sends what :meth:`heard` gives.

    A context manager: leaving it kills what still runs, and removes what is left of its run if it was the last there.
    """

    def __init__(self, role: Callable[..., None], *arguments: Any) -> None:
        self._here, there = _context.Pipe(duplex=True)
        self._process = _context.Process(target=_play, args=(role, there, arguments), daemon=True)
        self._process.start()
        there.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    @property
    def has_reported(self) -> bool:
        """Whether there is something to hear."""
        return self._here.poll(0)

    def heard(self) -> Any:
        """Wait for its next report. Raises EOFError if it has ended, AssertionError if nothing comes."""
        if not self._here.poll(PATIENCE):
            raise AssertionError("nothing heard")
        return self._here.recv()

    def hear_in_the_end(self) -> Any:
        """Wait for its next report, however long that takes. Raises EOFError if it has ended."""
        return self._here.recv()

    def go_on(self) -> None:
        """Let a role that waits go on."""
        self._here.send(None)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end; return its exit code, negative for a signal."""
        self._process.join(PATIENCE)
        if self._process.exitcode is None:
            raise AssertionError("it does not end")
        return self._process.exitcode

    def kill(self) -> None:
        """Kill it, and wait for its end. A second call does nothing."""
        self._process.kill()
        self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        self._here.close()
        self._process.close()
        remove_stale_runs()


class Line:
    """A role's way to talk to who started it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __call__(self, value: Any) -> None:
        """Report a value."""
        self._connection.send(value)

    def wait(self) -> None:
        """Wait for :meth:`End.go_on`. Raises EOFError where nobody is there any more."""
        self._connection.recv()


def _play(role: Callable[..., None], connection: Any, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    role(Line(connection), *arguments)


def store(line: Line, run: str) -> None:
    """Host a run: xenstore's server and the hypervisor's stand-in."""
    with Host(run) as host:
        line("ready")
        host.run()


def backend(line: Line, run: str, observer: Observer | None = None) -> None:
    """Be domain 0 with a backend by :data:`POLICY`, until told to stop."""
    _serve(line, run, observer, line)


def counted_backend(line: Line, run: str) -> None:
    """Be such a backend, until killed; each time it may go on it reports :func:`count_held`."""
    with ShmPlatform.join(run, domid=0, selectable=True, arena_pages=_ARENA_PAGES) as platform:
        serving = Backend(platform, Settings(policy=POLICY))
        threading.Thread(target=_count_when_told, args=(line, platform), daemon=True).start()
        line("ready")
        serving.run()


def _count_when_told(line: Line, platform: ShmPlatform) -> None:
    with suppress(EOFError, OSError):
        while True:
            line.wait()
            line(count_held(platform))


def count_held(platform: ShmPlatform) -> dict[str, int]:
    """Count what a domain holds: pages it can still grant, maps of others' pages, ports."""
    return {
        "free pages": platform._domain.arena.free_page_count,
        "maps": sum(row.in_use for row in platform._mapper._rows.values()),
        "ports": len(platform._channels._channels),
    }


def _serve(line: Line, run: str, observer: Observer | None, report: Callable[[Any], None]) -> None:
    with ShmPlatform.join(
        run, domid=0, selectable=True, arena_pages=_ARENA_PAGES, store_timeout=2 * PATIENCE
    ) as platform:
        serving = Backend(platform, Settings(policy=POLICY, observer=observer))
        threading.Thread(target=_stop_when_told, args=(line, serving), daemon=True).start()
        report("ready")
        serving.run()


def crowded_backend(line: Line, run: str, spare_descriptors: int) -> None:
    """Be a backend whose process has room for a few descriptors more than it needs to begin."""

    def limited(value: Any) -> None:
        limit = len(os.listdir("/proc/self/fd")) + spare_descriptors
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        line(value)

    _serve(line, run, None, limited)


def _stop_when_told(line: Line, serving: Backend) -> None:
    try:
        line.wait()
    except (EOFError, OSError):
        pass
    serving.stop()


def guest(line: Line, run: str, address: tuple[str, int]) -> None:
    """Join as a guest, report its domid, wait to go on; then use every command and report that it was done."""
    with ShmPlatform.join(run, arena_pages=_ARENA_PAGES) as platform:
        line(platform.domid)
        line.wait()
        with Frontend.open(platform, ring_order=1, timeout=PATIENCE) as frontend:
            use_every_command(frontend, address)
        line("done")


def use_every_command(frontend: Frontend, address: tuple[str, int], patience: float = PATIENCE) -> None:
    """Connect to an echo server and exchange bytes; listen, be polled, accept, and the same again. Raises OSError.

    Before that connect to where nobody is: the policy has to find out whether that is this host.
    """
    with frontend.socket() as nowhere:
        nowhere.settimeout(patience)
        try:
            nowhere.connect(_NOWHERE)
        except OSError as error:
            if error.errno != errno.ENETUNREACH:
                raise
    with frontend.create_connection(address, timeout=patience) as connection:
        _exchange(connection, connection)
    with socket.socket() as client, frontend.socket() as listener:
        client.settimeout(PATIENCE)
        listener.settimeout(patience)
        where = ("127.0.0.1", _free_port_number())
        listener.bind(where)
        listener.listen()
        wait_readable([listener], 0)  # Asks by POLL; nobody has come yet.
        client.connect(where)
        if not wait_readable([listener], patience):
            raise TimeoutError("a connection that nobody hears of")
        with listener.accept()[0] as accepted:
            accepted.settimeout(patience)
            _exchange(client, accepted, echoed=False)


def _exchange(sender: Any, receiver: Any, echoed: bool = True) -> None:
    """Send the message and take it back: from an echo server, or at the other end."""
    sender.sendall(_MESSAGE)
    taken = b""
    while len(taken) < len(_MESSAGE):
        piece = receiver.recv(1 << 16)
        if not piece:
            raise ConnectionError(f"the end after {len(taken)} bytes")
        taken += piece
    if taken != _MESSAGE:
        raise AssertionError("other bytes than were sent")


def _free_port_number() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number
