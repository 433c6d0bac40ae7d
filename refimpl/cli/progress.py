"""A progress bar for what takes longer than two seconds, on a terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

_PATIENCE_SECONDS = 2.0
_REFRESH_SECONDS = 0.1


@contextlib.contextmanager
def byte_progress(description: str, count: Callable[[], int], total: int | None = None) -> Iterator[None]:
    """Show how many bytes went, while the context lasts: only after two seconds, and only on a terminal.

    ``count()`` is asked for the bytes so far, from a thread of its own.
    """
    if not sys.stderr.isatty():
        yield
        return
    is_over = threading.Event()
    thread = threading.Thread(target=_show, args=(description, count, total, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _show(description: str, count: Callable[[], int], total: int | None, is_over: threading.Event) -> None:
    if is_over.wait(_PATIENCE_SECONDS):
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        while not is_over.wait(_REFRESH_SECONDS):
            progress.update(task, completed=count())
