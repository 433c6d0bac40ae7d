"""Both ends while the wall clock is set an hour forward and back, again and again: nothing hangs, nothing spins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

STEPPING = Path(__file__).parents[1] / "shm" / "stepping_clock.c"

WORKING = """
    import time
    from refimpl.testing.echo import echo_server
    from refimpl.testing.pair import shm_pair
    from refimpl.testing.processes import use_every_command

    first = time.time()
    assert any(abs(time.time() - first) > 3000 for _ in range(4)), "the clock does not step"
    with echo_server() as address, shm_pair(ring_order=1) as pair:
        for _ in range(20):
            use_every_command(pair.frontend, address)
        with pair.frontend.create_connection(address) as connection:
            connection.settimeout(0.2)
            began, used = time.monotonic(), time.process_time()
            try:
                connection.recv(1)
            except TimeoutError:
                assert 0.2 <= time.monotonic() - began
            assert time.process_time() - used < 0.1, "it spins"
    print("done")
"""


def test_steps_of_the_wall_clock_hang_nothing_and_spin_nothing(tmp_path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("package gcc is not installed")
    library = tmp_path / "stepping.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, STEPPING, "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WORKING)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
