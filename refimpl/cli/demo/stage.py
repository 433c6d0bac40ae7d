"""The demo's processes: started, played, and taken down again in the reverse order."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import refimpl.commands
from refimpl.cli.demo.report import Report
from refimpl.cli.processes import Child
from refimpl.cli.signals import held_back
from refimpl.errors import RefimplError

_GUEST_SECONDS = 60
_LARGE = "large.bin"
_LONGEST_DIRECTORY = 60


def play(report: Report, size_bytes: int) -> None:
    """Run the whole play, telling ``report`` each event; on return every process has ended."""
    with contextlib.ExitStack() as stack:
        stack.callback(report.flush)
        with held_back():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refimpl-", dir=_short_directory())))
        run, files = str(folder / "run"), folder / "files"
        names = _make_files(files, size_bytes)
        for name in names:
            report.expect(f"/{name}", (files / name).read_bytes())
        web_port = stack.enter_context(_web_server(files))
        guest_port = _free_port_number()
        report.say(
            f"store, toolstack, backend, two guests: each a process; http.server serves files on port {web_port}"
        )
        stack.enter_context(Child("store", "--run", run, waits_until_ready=True))
        stack.enter_context(Child("toolstack", "serve", "--run", run, waits_until_ready=True))
        rule = f"connect:127.0.0.1:{web_port}"
        with _listening_to(
            report, "backend", "--run", run, "--allow", rule, "--steps", "--json", waits_until_ready=True
        ):
            _play_guests(report, run, web_port, guest_port, names, files)


def _play_guests(report: Report, run: str, web_port: int, guest_port: int, names: list[str], files: Path) -> None:
    source = files / names[0]
    report.expect("/", source.read_bytes())
    serve = ("demo-guest", "serve", "guest 2", "--run", run, "--port", str(guest_port), "--visits", "2", str(source))
    fetch = ("demo-guest", "fetch", "guest 1", "--run", run, "--port", str(web_port), "--also", str(guest_port))
    with _listening_to(report, *serve, waits_until_ready=True) as server:
        _visit_from_outside(report, guest_port)
        with _listening_to(report, *fetch, *(f"/{name}" for name in names)) as fetcher:
            _await_guest(fetcher)
        _await_guest(server)


def _visit_from_outside(report: Report, port: int) -> None:
    """Be an ordinary client: nothing of PV Calls is in this process's way to the guest."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        body = answer.read()
    digest = hashlib.sha256(body).hexdigest()
    report.take(
        {
            "who": "outside",
            "fetched": "/",
            "bytes": len(body),
            "sha256": digest,
            "at": time.monotonic(),
            "source": f"guest 2, port {port}",
        }
    )


def _await_guest(guest: Child) -> None:
    try:
        status = guest.process.wait(_GUEST_SECONDS)
    except subprocess.TimeoutExpired:
        raise RefimplError(f"a guest has not finished within {_GUEST_SECONDS} seconds") from None
    if status != 0:
        raise RefimplError(f"a guest ended with status {status}; it said why above")


@contextlib.contextmanager
def _listening_to(report: Report, *arguments: str, waits_until_ready: bool = False) -> Iterator[Child]:
    """Run a child and give the report each line it prints, also those at its end."""
    read_end, write_end = os.pipe()

    def listen() -> None:
        with open(read_end, encoding="utf-8") as lines:
            for line in lines:
                report.take_line(line)

    thread = threading.Thread(target=listen)
    try:
        thread.start()
        with Child(*arguments, waits_until_ready=waits_until_ready, stdout=write_end) as child:
            os.close(write_end)
            write_end = -1
            yield child
    finally:
        if write_end >= 0:
            os.close(write_end)
        if thread.ident is not None:
            thread.join()


def _make_files(folder: Path, size_bytes: int) -> list[str]:
    """Put real files where the web server finds them: this package's own sources, and a large one of random bytes."""
    folder.mkdir()
    names = []
    for source in sorted(Path(refimpl.commands.__path__[0]).glob("[a-c]*.py")):
        (folder / source.name).write_bytes(source.read_bytes())
        names.append(source.name)
    (folder / _LARGE).write_bytes(os.urandom(size_bytes))
    return [*names, _LARGE]


@contextlib.contextmanager
def _web_server(folder: Path) -> Iterator[int]:
    """Run Python's http.server on a port of its own choice; give that port number."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        assert server.stdout is not None
        first_line = server.stdout.readline()  # Serving HTTP on 127.0.0.1 port 12345 (http://...) ...
        yield int(first_line.split(" port ")[1].split()[0])
    finally:
        server.terminate()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def _short_directory() -> str:
    """Return where temporary files go, or /tmp where that leaves no room for the path of a unix socket."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= _LONGEST_DIRECTORY else "/tmp"


def _free_port_number() -> int:
    """Return a TCP port number free now: BIND to port 0 would not tell the guest which it got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number
