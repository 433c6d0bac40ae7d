"""A run of the shm platform, its store and hypervisor in a thread of the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from refimpl.shm import Host


@contextmanager
def running_host(directory: str) -> Iterator[Host]:
    """Host a run in a directory that is not there yet; its end, unless somebody stops it before, is the block's."""
    with Host(directory) as host:
        thread = threading.Thread(target=host.run, name="host")
        thread.start()
        try:
            yield host
        finally:
            host.stop()
            thread.join()
