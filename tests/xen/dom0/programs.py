"""`refimpl`'s own commands, used by the tests as a person would: the backend in dom0, a connection in a guest."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from guests import Guest

#: dom0/services.py
ECHO_PORT = 7001
ECHO = f"127.0.0.1 {ECHO_PORT}"
PATIENCE = 60.0


def as_user(user: str, command: str) -> str:
    """Return the shell command that runs another one, which has no quotes of this kind, as a user."""
    return f"exec su {user} -s /bin/sh -c '{command}'"


class BackendProcess:
    """`refimpl backend` in a process of its own, which can be killed; looked at by sampler.py where there is a file."""

    def __init__(self, user: str = "root", sampled_into: Path | None = None) -> None:
        python = f"python3 tests/xen/dom0/sampler.py {sampled_into}" if sampled_into else "python3 -m"
        command = as_user(user, f"exec {python} refimpl backend --allow 127.0.0.1")
        self._process = subprocess.Popen(command, shell=True, stdin=subprocess.DEVNULL)
        self.process = self._process.pid

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        self._process.terminate()
        return self._process.wait(PATIENCE)


class Conversation:
    """A program in a guest that answers each line with a line."""

    def __init__(self, guest: Guest, command: str, patience: float = PATIENCE) -> None:
        self._pipe = guest.open(f"exec {command}", patience)
        self._answers = self._pipe.makefile("r")

    def ask(self, line: str) -> str:
        """Say a line and return the answer."""
        self._pipe.sendall(line.encode() + b"\n")
        return self.hear()

    def hear(self) -> str:
        """Return the next line that it says."""
        answer = self._answers.readline().rstrip()
        assert not answer.startswith(("Timeout (", "Traceback")), self._answers.read()
        return answer

    def close(self) -> None:
        """End it."""
        self._answers.close()
        self._pipe.close()


def holding(guest: Guest, front: str, back: str, role: str, port: int) -> Conversation:
    """Start guest/holding.py: a socket of a frontend."""
    command = f"env FRONT={front} BACK={back} python3 tests/xen/guest/holding.py {role} {port}"
    return Conversation(guest, command)


class Program:
    """`refimpl connect` in a guest, connected to the echo service."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._pipe = guest.open(f"echo $$; exec python3 -m refimpl connect {ECHO}", PATIENCE)
        self.process = int(self._receive(lambda line: line.endswith(b"\n")))
        self.say(b"hello")

    def say(self, word: bytes) -> None:
        """Send a word and hear it echoed."""
        self._pipe.sendall(word)
        heard = self._receive(lambda received: len(received) == len(word))
        assert heard == word.upper(), heard + self._pipe.recv(4096)

    def wait_for_end(self) -> bytes:
        """Return what the program says until it ends."""
        last = b""
        while chunk := self._pipe.recv(4096):
            last += chunk
        return last

    def kill(self, signal: str) -> None:
        """Send a signal, and wait for the end."""
        self._guest.run(f"kill -{signal} {self.process}; while [ -d /proc/{self.process} ]; do usleep 10000; done")

    def _receive(self, is_whole: Callable[[bytes], bool]) -> bytes:
        received = b""
        while not is_whole(received):
            character = self._pipe.recv(1)
            assert character, f"the program ended: {received!r}"
            received += character
        return received

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no program behind: it would keep the device."""
        self._pipe.close()
        if self._guest.is_alive:
            self._guest.attempt(f"kill -9 {self.process}; while [ -d /proc/{self.process} ]; do usleep 10000; done")
