"""Servers to ask: ours, and Debian's C xenstored with no Xen beneath it; clients that speak as any domain."""

from __future__ import annotations

import contextlib
import mmap
import os
import selectors
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from refimpl.fence import fences
from refimpl.ready import is_readable
from refimpl.shm.store import StoreServer
from refimpl.shm.store.database import Database
from refimpl.shm.store.quotas import Quotas
from refimpl.shm.store.session import Session
from refimpl.store.wire import HEADER, Operation
from refimpl.testing.raw_store_client import RawStoreClient
from refimpl.testing.running_store import running_store

XENSTORED = Path("/usr/lib/xen-4.17/bin/xenstored")

RING_BYTES = 1024
REQUESTS_AT, REPLIES_AT = 0, RING_BYTES
#: The page's four indexes, as 32-bit words.
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = range(512, 516)


class RingStream:
    """A guest's ring page, with what a connected socket offers. See xenstored_without_xen.c for the files."""

    def __init__(self, folder: Path, domid: int) -> None:
        self.domid = domid
        self.timeout = None
        page_file = folder / f"ring-{domid}"
        page_file.write_bytes(bytes(mmap.PAGESIZE))
        with page_file.open("r+b") as file:
            self.page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.words = memoryview(self.page).cast("I")
        wake = folder / f"wake-{domid}"
        if not wake.exists():
            os.mkfifo(wake)
        self.wake = os.open(wake, os.O_RDWR | os.O_NONBLOCK)
        self.events = os.open(folder / "events", os.O_WRONLY)

    def settimeout(self, seconds):
        self.timeout = seconds

    def _notify(self):
        os.write(self.events, struct.pack("I", self.domid))

    def _wait(self):
        if not is_readable(self.wake, self.timeout):
            raise TimeoutError
        os.read(self.wake, 4096)

    def sendall(self, data):
        while data:
            produced = self.words[REQ_PROD]
            room = RING_BYTES - ((produced - self.words[REQ_CONS]) % 2**32)
            if not room:
                self._wait()
                continue
            at = produced % RING_BYTES
            piece = data[: min(room, RING_BYTES - at)]
            self.page[REQUESTS_AT + at : REQUESTS_AT + at + len(piece)] = piece
            fences().full()
            self.words[REQ_PROD] = (produced + len(piece)) % 2**32
            self._notify()
            data = data[len(piece) :]

    def recv(self, size):
        while not (there := (self.words[RSP_PROD] - self.words[RSP_CONS]) % 2**32):
            self._wait()
        fences().full()
        consumed = self.words[RSP_CONS]
        at = consumed % RING_BYTES
        piece = self.page[REPLIES_AT + at : REPLIES_AT + at + min(size, there, RING_BYTES - at)]
        fences().full()
        self.words[RSP_CONS] = (consumed + len(piece)) % 2**32
        self._notify()
        return piece

    def close(self):
        self.words.release()
        self.page.close()
        os.close(self.wake)
        os.close(self.events)


class LocalStream:
    """A session with no socket under it: what is sent is handled at once."""

    def __init__(self, session) -> None:
        self.session = session

    def settimeout(self, seconds):
        pass

    def sendall(self, data):
        operation, req_id, tx_id, length = HEADER.unpack(data)
        self.session.handle(operation, req_id, tx_id, data[HEADER.size : HEADER.size + length])

    def recv(self, size):
        pieces = self.session.outbox.first()
        if not pieces:
            raise TimeoutError("nothing was queued for this client")
        piece = bytes(pieces[0][:size])
        self.session.outbox.sent(len(piece))
        return piece

    def close(self):
        self.session.hang_up()


class Ours:
    """Our server: every domain has its socket."""

    name = "ours"

    def __init__(self, store) -> None:
        self.store = store

    def connect(self, domid=0):
        return RawStoreClient.connect(self.store.identity(domid))


class Real:
    """Debian's C xenstored: domain 0 has its socket, a guest its ring. One connection a guest, as in Xen."""

    name = "xenstored"

    def __init__(self, folder: Path, stand_in: Path) -> None:
        self.folder = folder
        self.path = folder / "socket"
        self.log = (folder / "log").open("wb")
        os.mkfifo(folder / "events")
        environment = dict(
            os.environ,
            XENSTORED_RUNDIR=str(folder),
            XENSTORED_ROOTDIR=str(folder),
            XENSTORED_PATH=str(self.path),
            LD_PRELOAD=str(stand_in),
        )
        command = [XENSTORED, "--no-fork", "--internal-db", "--pid-file", folder / "pid"]
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        self._wait_until_it_listens()

    def _wait_until_it_listens(self):
        deadline = time.monotonic() + 20
        while True:
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(str(self.path))
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"xenstored did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.01)

    def connect(self, domid=0):
        if domid == 0:
            return RawStoreClient.connect(self.path)
        guest = RawStoreClient(RingStream(self.folder, domid))
        with self.connect() as toolstack:
            reply = toolstack.request(Operation.INTRODUCE, b"%d\x001\x00%d\x00" % (domid, domid))
            assert reply.error is None, reply
        return guest

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture
def short_path():
    """Return a folder with a path short enough for the names of unix sockets."""
    with tempfile.TemporaryDirectory(prefix="xs") as folder:
        yield Path(folder)


@pytest.fixture
def store(short_path):
    """Return our server, running."""
    with running_store(short_path) as store:
        yield store


@pytest.fixture(scope="session")
def start():
    """Return ``start(folder)``, a context manager of our server with its sockets in the folder."""

    @contextlib.contextmanager
    def start(folder):
        with running_store(folder) as store:
            yield Ours(store)

    return start


@pytest.fixture(scope="session")
def start_real(xen_stand_in):
    """Return ``start_real(folder)``, a context manager of Debian's C xenstored in the folder."""

    @contextlib.contextmanager
    def start_real(folder):
        server = Real(folder, xen_stand_in)
        try:
            yield server
        finally:
            server.stop()

    return start_real


@pytest.fixture
def real_xenstored(start_real, short_path):
    """Return Debian's C xenstored, running."""
    with start_real(short_path) as server:
        yield server


@pytest.fixture(params=["ours", "xenstored"])
def server(request):
    """Return each of the servers in turn."""
    if request.param == "ours":
        return Ours(request.getfixturevalue("store"))
    return request.getfixturevalue("real_xenstored")


@pytest.fixture
def connect(server):
    """Return ``connect(domid=0)``: a client of the server, speaking as the domain; closed after the test."""
    with contextlib.ExitStack() as clients:
        yield lambda domid=0: clients.enter_context(server.connect(domid))


@pytest.fixture
def client(store):
    """Return ``client(domid=0)``: a client of our server, speaking as the domain; closed after the test."""
    with contextlib.ExitStack() as clients:
        yield lambda domid=0: clients.enter_context(RawStoreClient.connect(store.identity(domid)))


@pytest.fixture(scope="session")
def new_database():
    """Return ``new_database()``: a store with no sockets; ``released`` of it lists the domains it let go."""

    def new_database(quotas=None):
        released = []
        database = Database(quotas or Quotas(), released.append)
        database.released = released
        return database

    return new_database


@pytest.fixture
def database(new_database):
    """Return a store with no sockets."""
    return new_database()


@pytest.fixture(scope="session")
def speak():
    """Return ``speak(database, domid)``: a client in this very thread, speaking as the domain."""

    def speak(database, domid=0):
        return RawStoreClient(LocalStream(Session(database, database.domains.get(domid))))

    return speak


class Loop:
    """Our server in a selector loop that a test turns by hand."""

    def __init__(self, folder: Path, selector, quotas: Quotas) -> None:
        self.folder = folder
        self.selector = selector
        self.server = StoreServer(selector, quotas=quotas)
        self.path(0)

    def path(self, domid):
        """Return the path of the domain's socket, which is made with the first call."""
        path = self.folder / str(domid)
        if not path.exists():
            self.server.listen(domid, str(path))
        return path

    def connect(self, domid=0):
        """Return a socket whose client is accepted already."""
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(str(self.path(domid)))
        stream.settimeout(0)
        self.settle()
        return stream

    def turn(self, timeout=0):
        """Serve what is ready, once; return how much was."""
        ready = self.selector.select(timeout)
        for key, mask in ready:
            key.data(mask)
        return len(ready)

    def settle(self):
        """Turn until nothing is ready."""
        while self.turn():
            pass


@pytest.fixture
def loop(short_path):
    """Return ``loop(quotas, selector)``: our server in a loop that the test turns by hand."""
    with contextlib.ExitStack() as ends:

        def loop(quotas=None, selector=None):
            made = Loop(short_path, selector or selectors.DefaultSelector(), quotas or Quotas())
            ends.callback(made.selector.close)
            ends.callback(made.server.close)
            return made

        yield loop
