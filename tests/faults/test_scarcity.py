"""What runs out: descriptors of a backend, memory for rings, /dev/shm. Whoever asked is told, all else goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from refimpl.testing.processes import End, backend, crowded_backend, use_every_command


@pytest.mark.spec("SOCKET-7", "ACCEPT-15")
@pytest.mark.security("SEC-B-6")
def test_a_backend_out_of_descriptors_says_so_and_serves_on(run, echo) -> None:
    platform = run.join()
    with End(crowded_backend, run.directory, 12) as serving:
        assert serving.heard() == "ready"
        with run.open(platform) as frontend, frontend.create_connection(echo) as connection:
            sockets = []
            with pytest.raises(OSError) as refused:
                for _ in range(20):
                    sockets.append(frontend.socket())
            assert refused.value.errno in (errno.EMFILE, errno.ENFILE)
            assert len(sockets) >= 4
            with pytest.raises(OSError) as decided:  # The policy asks whose address that is, and needs no descriptor.
                sockets[0].connect(("255.255.255.255", 1))
            assert decided.value.errno == errno.ENETUNREACH
            connection.sendall(b"still here")
            assert connection.recv(64) == b"still here"
            for each in sockets:
                each.close()
            use_every_command(frontend, echo)


@pytest.mark.erratum("E-RECONNECT")
def test_a_guest_that_comes_to_a_backend_out_of_descriptors_can_come_again(run, echo) -> None:
    first, second = run.join(), run.join()
    with End(crowded_backend, run.directory, 24) as serving:
        assert serving.heard() == "ready"
        with run.open(first) as frontend:
            sockets = []
            with pytest.raises(OSError):
                for _ in range(40):
                    sockets.append(frontend.socket())
            with pytest.raises(OSError):
                run.open(second, timeout=1.0)
            for each in sockets:
                each.close()
            with run.open(second) as other:
                use_every_command(other, echo)
            use_every_command(frontend, echo)


def test_no_memory_for_another_ring_leaves_the_others(run, echo) -> None:
    """The guest's arena holds a few rings: the next one is refused, not waited for, and a closed one makes room."""
    platform = run.join()
    with End(backend, run.directory) as serving:
        assert serving.heard() == "ready"
        with run.open(platform, ring_order=8) as frontend, contextlib.ExitStack() as opened:
            first = opened.enter_context(frontend.create_connection(echo))
            connections = [first]
            with pytest.raises(OSError) as refused:
                for _ in range(600):
                    connections.append(opened.enter_context(frontend.create_connection(echo)))
            assert refused.value.errno in (errno.ENOMEM, errno.ENOBUFS)
            for each in (first, connections[-1]):
                each.sendall(b"still here")
                assert each.recv(64) == b"still here"
            connections[-1].close()
            with frontend.create_connection(echo) as again:
                again.sendall(b"room again")
                assert again.recv(64) == b"room again"


FULL = """
    import errno, socket
    from pathlib import Path
    from refimpl.testing.pair import shm_pair

    with socket.create_server(("127.0.0.1", 0), backlog=64) as server, shm_pair(ring_order=6) as pair:
        server.settimeout(30)
        address = server.getsockname()
        first = pair.frontend.create_connection(address)
        peer, _ = server.accept()
        filling = Path("/dev/shm/somebody-elses")
        with filling.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError as full:
                assert full.errno == errno.ENOSPC
        try:
            pair.frontend.create_connection(address)
        except OSError as refused:
            print(errno.errorcode[refused.errno])
        first.sendall(b"as before")
        assert peer.recv(64) == b"as before"
        filling.unlink()
        with pair.frontend.create_connection(address) as again:
            other, _ = server.accept()
            again.sendall(b"room again")
            assert other.recv(64) == b"room again"
        print("done")
"""


def test_a_full_dev_shm_is_an_error_of_the_call_that_asked() -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("package util-linux is not installed")
    inside = 'mount -t tmpfs -o size=8m tmpfs /dev/shm && echo mounted && exec "$@"'
    program = textwrap.dedent(FULL)
    command = [unshare, "--mount", "--map-root-user", "sh", "-c", inside, "sh", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=dict(os.environ))
    if "mounted" not in done.stdout:
        pytest.skip("this user may not mount a small /dev/shm of its own")
    assert done.stderr == ""
    assert done.stdout.split() == ["mounted", "ENOBUFS", "done"]
