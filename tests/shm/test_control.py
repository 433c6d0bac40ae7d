"""Calls to the hypervisor: what is no message, and a hypervisor that is gone."""

from __future__ import annotations

import os
import resource
import socket
import threading
from pathlib import Path

import pytest

from refimpl.errors import DomainClosed, LimitReached, PlatformUnavailable
from refimpl.shm import control
from refimpl.shm.control import LARGEST_MESSAGE, Control, NotAMessage, close_all, receive_message, send_message


@pytest.fixture
def pair():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


@pytest.fixture
def listener(run_directory: Path):
    run_directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(run_directory / "control"))
        listening.listen()
        yield listening


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_message_arrives_with_its_descriptors(pair) -> None:
    with open("/dev/null", "rb") as null:
        send_message(pair[0], {"call": "x"}, [null.fileno()])
        message, (descriptor,) = receive_message(pair[1])
        assert message == {"call": "x"}
        assert os.readlink(f"/proc/self/fd/{descriptor}") == "/dev/null"
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b'{"call": "' + b"x" * LARGEST_MESSAGE + b'"}',
        b'{"a":' * 800,
        b"[" * (LARGEST_MESSAGE - 1),
        b"1" * (LARGEST_MESSAGE - 1),
    ],
)
def test_anything_else_is_no_message_and_leaves_no_descriptor(pair, data) -> None:
    before = open_descriptors()
    with open("/dev/null", "rb") as null:
        socket.send_fds(pair[0], [data], [null.fileno()] if data else [])
        if not data:
            pair[0].shutdown(socket.SHUT_WR)
        with pytest.raises(NotAMessage):
            receive_message(pair[1])
    assert open_descriptors() <= before


def test_too_many_descriptors_are_no_message(pair) -> None:
    before = open_descriptors()
    with open("/dev/null", "rb") as null:
        socket.send_fds(pair[0], [b"{}"], [null.fileno()] * 5)
        with pytest.raises(NotAMessage):
            receive_message(pair[1])
    assert open_descriptors() <= before


def test_no_room_for_an_answers_descriptors_passes(listener, run_directory) -> None:
    """The answer is lost, with its descriptors, and the connection is as good as before."""
    client = Control(run_directory)
    connection, _ = listener.accept()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connection, open("/dev/null", "rb") as null:
        for _ in range(2):
            send_message(connection, {}, [null.fileno(), null.fileno()])
        before = open_descriptors()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(LimitReached):
                client.call({})
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert open_descriptors() <= before
        answer, descriptors = client.call({})
        assert (answer, len(descriptors)) == ({}, 2)
        close_all(descriptors)
    client.close()


def test_no_run_is_said_in_one_line(run_directory) -> None:
    with pytest.raises(PlatformUnavailable, match="no run lives in") as raised:
        Control(run_directory)
    assert "\n" not in str(raised.value)
    run_directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(run_directory / "control"))
    with pytest.raises(PlatformUnavailable, match="Connection refused"):
        Control(run_directory)
    (run_directory / "control").unlink()


def test_silent_hypervisor_is_gone_after_the_patience(listener, run_directory, monkeypatch) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.05)
    client = Control(run_directory)
    with pytest.raises(DomainClosed, match="is gone"):
        client.call({"call": "peer"})
    # A late answer is nobody's.
    with pytest.raises(DomainClosed, match="is gone"):
        client.call({"call": "peer"})
    client.close()
    client.close()


@pytest.mark.parametrize("answer", [b"", b"nonsense"])
def test_hypervisor_that_hangs_up_or_talks_nonsense_is_gone(listener, run_directory, answer) -> None:
    client = Control(run_directory)
    connection, _ = listener.accept()
    with connection:
        if answer:
            connection.send(answer)
    with pytest.raises(DomainClosed):
        client.call({"call": "peer"})


def test_answers_are_not_mixed_up_among_threads(listener, run_directory) -> None:
    def echo() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(LARGEST_MESSAGE):
                connection.send(data)

    echoing = threading.Thread(target=echo)
    echoing.start()
    client = Control(run_directory)
    wrong: list[object] = []

    def ask(number: int) -> None:
        for turn in range(200):
            answer, _ = client.call({"number": number, "turn": turn})
            if answer != {"number": number, "turn": turn}:
                wrong.append(answer)

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    client.close()
    echoing.join()
    assert wrong == []
