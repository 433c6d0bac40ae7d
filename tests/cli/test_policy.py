"""Policies as their users have them: checked, asked, given to a running host, read again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import PATIENCE, command

POLICY = """\
[[rule]]
name = "no mail"
action = "deny"
call = "connect"
address = "any"
ports = "25"
error = "ECONNREFUSED"

[[rule]]
action = "rewrite"
call = "connect"
address = "192.0.2.1"
to = "127.0.0.1:8080"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


def test_check_says_that_it_is_right_or_what_is_not(run, path: Path) -> None:
    done = run("policy", "check", str(path))
    assert (done.returncode, done.stdout.decode()) == (0, f"{path}: 2 rules, limits of 0 guests; right\n")
    path.write_text('[[rule]]\naction = "deny"\nport = 25\n')
    done = run("policy", "check", str(path))
    assert (done.returncode, done.stdout) == (2, b"")
    said = f"refimpl: {path}:3: 'port' is no key of a rule; did you mean 'ports'?\n"
    assert done.stderr.decode() == said


def test_asked_of_calls_it_prints_the_decision_and_the_rule(run, path: Path) -> None:
    calls = ("guest3:connect:198.51.100.1:25", "connect:192.0.2.1:80", "listen", "connect:127.0.0.1:99")
    calls += ("connect:127.0.0.1:98", "connect:127.0.0.2:98")
    done = run("policy", "test", str(path), *calls, "--listening", "99", "--listening", "127.0.0.2:98")
    assert done.returncode == 1
    assert done.stdout.decode().splitlines() == [
        f"guest 3 connect 198.51.100.1:25: refused, ECONNREFUSED: rule 'no mail' ({path}:1) denies it",
        "guest 1 connect 192.0.2.1:80: goes to 127.0.0.1:8080: "
        f"rule 'call connect, address 192.0.2.1' ({path}:9) makes it 127.0.0.1:8080",
        "guest 1 listen: allowed: nothing denies it",
        "guest 1 connect 127.0.0.1:99: allowed: nothing denies it",
        "guest 1 connect 127.0.0.1:98: refused, EACCES: the default denies this host's own services; "
        "--allow connect:127.0.0.1:98 would allow it",
        "guest 1 connect 127.0.0.2:98: allowed: nothing denies it",
    ]
    done = run("policy", "test", str(path), "--json", "connect:192.0.2.1:80")
    assert done.returncode == 0
    assert json.loads(done.stdout)["rewritten_to"] == "127.0.0.1:8080"


@pytest.mark.parametrize("call", ["", "guest3", "connect", "connect:1.2.3.4", "connect:1.2.3.4:99999", "listen:1:2",
                                  "connect:host:80", "conect:1.2.3.4:80"])  # fmt: skip
def test_a_call_that_is_none_is_misuse(run, path: Path, call: str) -> None:
    done = run("policy", "test", str(path), call)
    assert done.returncode == 2
    assert f"call {call!r}: " in done.stderr.decode()


@pytest.mark.parametrize("name", ["backend", "host"])
def test_a_bad_file_keeps_anything_from_starting(run, path: Path, directory: str, name: str) -> None:
    path.write_text("\nrules = 1\n")
    done = run(name, "--run", directory, "--policy", str(path))
    assert done.returncode == 2
    assert f"{path}:2: 'rules' is no key of a policy; did you mean 'rule'?" in done.stderr.decode()
    assert not Path(directory).exists()


@pytest.fixture
def said(directory: str, path: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A host with the policy, whose trace goes to a file and whose stderr can be read line by line."""
    trace = tmp_path / "trace"
    arguments = command("host", "--run", directory, "--json", "--policy", str(path), "--trace-file", str(trace))
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert json.loads(host.stdout.readline())["run"] == directory
        yield host, trace
        host.send_signal(signal.SIGINT)
        host.communicate(timeout=PATIENCE)


@pytest.mark.security("SEC-B-15")
def test_it_is_read_again_on_sighup_and_no_connection_is_dropped(run, directory: str, path: Path, said) -> None:
    host, trace = said
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        path.write_text(POLICY.replace("127.0.0.1:8080", to))
        host.send_signal(signal.SIGHUP)
        assert host.stderr.readline() == "refimpl: the policy was read again: 2 rules\n"
        connecting = command("connect", "192.0.2.1", "80", "--run", directory)
        with subprocess.Popen(connecting, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
            connection, _ = listener.accept()
            path.write_text("nonsense = 1\n")
            host.send_signal(signal.SIGHUP)
            assert f"{path}:1: 'nonsense' is no key of a policy" in host.stderr.readline()
            assert host.stderr.readline() == "refimpl: the old policy stays\n"
            refused = run("connect", "198.51.100.1", "25", "--run", directory)
            assert (refused.returncode, b"ECONNREFUSED" in refused.stderr) == (1, True)
            path.write_text('[[rule]]\naction = "deny"\n')
            host.send_signal(signal.SIGHUP)
            assert host.stderr.readline() == "refimpl: the policy was read again: 1 rules\n"
            assert b"EACCES" in run("connect", "192.0.2.1", "80", "--run", directory).stderr
            path.unlink()
            os.mkfifo(path)  # It keeps its reader waiting; nobody else waits.
            host.send_signal(signal.SIGHUP)
            assert b"EACCES" in run("connect", "192.0.2.1", "80", "--run", directory).stderr
            path.write_text('[[rule]]\naction = "deny"\n[[rule]]\naction = "deny"\n')
            assert host.stderr.readline() == "refimpl: the policy was read again: 2 rules\n"
            with connection:
                connection.sendall(b"still here")
            assert guest.communicate(timeout=PATIENCE)[0] == b"still here"
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    connects = [event for event in events if event.get("request", {}).get("cmd") == "CONNECT"]
    assert [event["ret"] for event in connects] == [0, -111]
    assert connects[0]["policy"].endswith(f"makes it {to}")
    assert f"rule 'no mail' ({path}:1) denies it" in connects[1]["reason"]
