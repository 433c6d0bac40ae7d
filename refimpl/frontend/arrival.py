"""A guest may start before the toolstack has made its device: wait for it, not for ever.

Spec: Xenstore.
"""

from __future__ import annotations

import threading
import time

from refimpl.errors import StoreAccessRefused, StoreNoEntry
from refimpl.platform import Platform, Store
from refimpl.xenstore.paths import frontend_path

#: How long a toolstack may take, in seconds.
ARRIVAL_SECONDS = 5.0


def await_device(platform: Platform, device_id: int, seconds: float) -> None:
    """Return once the device's directory is complete, or after ``seconds`` all the same. Raises StoreLost."""
    path = frontend_path(platform.domid, device_id)
    changed = threading.Event()
    watch = platform.store.watch(path, lambda _path: changed.set())
    platform.store.on_lost(changed.set)
    deadline = time.monotonic() + seconds
    try:
        while not _is_there(platform.store, path) and time.monotonic() < deadline:
            changed.wait(deadline - time.monotonic())
            changed.clear()
    finally:
        watch.cancel()


def _is_there(store: Store, path: str) -> bool:
    try:
        store.read(f"{path}/state")  # Written in one transaction with the rest (XS-2).
    except (StoreNoEntry, StoreAccessRefused):  # What is not there yet may not be ours to ask for.
        return False
    return True
