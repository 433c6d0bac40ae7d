"""`refimpl host` and what its users do with it, Debian's tools and curl among them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from resource import RLIMIT_NOFILE, setrlimit

import pytest

from refimpl.frontend import Frontend
from refimpl.shm import ShmPlatform

from .conftest import PATIENCE, Host, command


def need(tool: str, package: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"package {package} is not installed")
    return found


@contextlib.contextmanager
def echo_server():
    """A server that sends back what it gets, one connection after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        while data := connection.recv(65536):
                            connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_connect_relays_standard_input_and_output(run, host: Host) -> None:
    data = os.urandom(1_000_000)
    with echo_server() as port:
        done = run("connect", "127.0.0.1", str(port), "--run", host.directory, "--wait", "3", "--json", input=data)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    sums = json.loads(done.stderr)
    assert (sums["bytes_sent"], sums["bytes_received"]) == (len(data), len(data))


def test_connect_goes_on_receiving_after_its_input_ended(run, host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_late() -> None:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(9) == b"question"
                connection.sendall(b"answer")

        thread = threading.Thread(target=answer_late)
        thread.start()
        where = ("127.0.0.1", str(listener.getsockname()[1]))
        done = run("connect", *where, "--run", host.directory, input=b"question")
        thread.join()
    assert (done.returncode, done.stdout) == (0, b"answer")


def test_a_refused_connection_is_one_line_and_status_1(run, host: Host, free_port: int) -> None:
    done = run("connect", "127.0.0.1", str(free_port), "--run", host.directory)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert b"ECONNREFUSED" in done.stderr


def test_a_name_with_no_ipv4_address_is_said_so(run, host: Host) -> None:
    done = run("connect", "::1", "80", "--run", host.directory)
    assert done.returncode in (1, 2)
    assert b"IPv4" in done.stderr
    assert b"Traceback" not in done.stderr


def test_curl_fetches_a_file_that_a_guest_serves_by_listen(host: Host, free_port: int, tmp_path: Path) -> None:
    curl = need("curl", "curl")
    body = os.urandom(200_000)
    answer = tmp_path / "answer"
    answer.write_bytes(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    listening = command("listen", str(free_port), "--address", "127.0.0.1", "--run", host.directory, "--timeout", "60")
    with answer.open("rb") as content, subprocess.Popen(listening, stdin=content, stdout=subprocess.PIPE) as guest:
        retry = ["--retry", "30", "--retry-connrefused", "--retry-delay", "1", "--noproxy", "*"]
        url = f"http://127.0.0.1:{free_port}/file"
        fetched = subprocess.run([curl, "-s", *retry, url], capture_output=True, timeout=PATIENCE)
        assert guest.stdout is not None
        request = guest.stdout.read()
        assert guest.wait(PATIENCE) == 0
    assert fetched.stdout == body
    assert request.startswith(b"GET /file HTTP/1.1\r\n")


def test_debians_xenstore_ls_shows_the_tree(run, host: Host) -> None:
    xenstore_ls = need("xenstore-ls", "xenstore-utils")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = ("127.0.0.1", str(listener.getsockname()[1]))
        connecting = command("connect", *where, "--run", host.directory)
        with subprocess.Popen(connecting, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
            connection, _ = listener.accept()
            shown = subprocess.run([xenstore_ls, "-fp"], env=host.tool_environment, capture_output=True, text=True)
            listed = run("toolstack", "list", "--run", host.directory)
            as_json = run("toolstack", "list", "--run", host.directory, "--json")
            connection.close()
            assert guest.communicate(timeout=PATIENCE)[0] == b""
    assert '/local/domain/0/backend/pvcalls/1/0/state = "4"   (n0,r1)' in shown.stdout
    assert '/local/domain/1/device/pvcalls/0/state = "4"   (n1,r0)' in shown.stdout
    assert b"4 Connected" in listed.stdout
    assert json.loads(as_json.stdout)["frontend_id"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly(directory: str, number: int) -> None:
    host = Host(directory)
    assert host.stop(number) == 0
    assert not Path(directory).exists()


@pytest.mark.security("SEC-B-6")
@pytest.mark.parametrize(("hard", "all_that_it_may"), [(200, 102), (2000, 1024)])
def test_a_backend_takes_all_the_descriptors_it_may_and_one_guest_not_all_of_them(
    directory: str, hard: int, all_that_it_may: int
) -> None:
    host = Host(directory, stderr=subprocess.PIPE, preexec_fn=lambda: setrlimit(RLIMIT_NOFILE, (120, hard)))
    try:
        with contextlib.ExitStack() as stack:
            platforms = [stack.enter_context(ShmPlatform.join(directory)) for _ in range(2)]
            greedy, modest = (stack.enter_context(Frontend.open(platform)) for platform in platforms)
            taken = 0
            with pytest.raises(OSError, match="EMFILE"):
                while True:
                    greedy.socket()
                    taken += 1
            assert taken == all_that_it_may
            assert [modest.socket() for _ in range(16)]
    finally:
        host.stop()
    assert host.process.stderr is not None
    said = host.process.stderr.read()
    host.process.stderr.close()
    assert ("the limit of 200 descriptors leaves a guest 102 sockets of 1024" in said) is (hard == 200)


def test_it_says_what_guests_may_reach(directory: str) -> None:
    with subprocess.Popen(command("host", "--run", directory), stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        first = host.stdout.readline()
        host.send_signal(signal.SIGINT)
        host.communicate(timeout=PATIENCE)
    assert "guests may reach everything this machine reaches" in first


def test_deny_refuses_and_names_its_rule_in_the_trace(directory: str, run) -> None:
    host = Host(directory, "--deny", "connect:127.0.0.1:9", "--trace")
    try:
        done = run("connect", "127.0.0.1", "9", "--run", directory)
        assert done.returncode == 1
        assert b"EACCES" in done.stderr
        assert host.process.stdout is not None
        while True:
            event = json.loads(host.process.stdout.readline())
            if event.get("ret") == -13:
                break
        assert "rule 'connect:127.0.0.1:9' (--deny) denies it" in event["reason"]
    finally:
        host.stop()


def test_a_trace_file_that_cannot_be_is_said_before_anything_runs(directory: str, run) -> None:
    done = run("host", "--run", directory, "--trace-file", "/no/such/file")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"refimpl: --trace-file /no/such/file: No such file or directory\n"


def test_a_trace_that_nobody_reads_stops_no_guest(directory: str) -> None:
    host = Host(directory, "--steps")
    try:
        with ShmPlatform.join(directory, arena_pages=64) as platform, Frontend.open(platform) as frontend:
            for _ in range(500):  # Some ten lines each: the pipe is full long before the end.
                frontend.socket().close()
    finally:
        assert host.stop() == 0


def test_killed_outright_it_can_be_started_again_at_once(directory: str, run) -> None:
    first = Host(directory)
    first.process.kill()
    first.stop()
    second = Host(directory)
    try:
        with echo_server() as port:
            arguments = ("connect", "127.0.0.1", str(port), "--run", directory, "--wait", "2")
            assert run(*arguments, input=b"hello").stdout == b"hello"
    finally:
        second.stop()


def test_two_hosts_in_one_directory_are_refused(host: Host, run) -> None:
    done = run("host", "--run", host.directory)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


def test_the_parts_can_be_run_one_by_one(directory: str, run) -> None:
    """What host does in one: store, backend, and a device attached by hand once the guest is there."""
    from refimpl.cli.processes import Child

    with (
        Child("store", "--run", directory, waits_until_ready=True),
        Child("toolstack", "serve", "--run", directory, waits_until_ready=True),
        Child("backend", "--run", directory, "--allow-everything", waits_until_ready=True),
        echo_server() as port,
    ):
        arguments = ("connect", "127.0.0.1", str(port), "--run", directory, "--wait", "2")
        assert run(*arguments, input=b"by hand").stdout == b"by hand"
        assert b"no PV Calls devices" in run("toolstack", "list", "--run", directory).stderr
        attached = run("toolstack", "attach", "7", "--run", directory)
        assert attached.returncode == 1  # There is no domain 7.
        assert b"ENOENT" in attached.stderr
