"""Options that several commands share, and what they mean."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refimpl.errors import Misuse, PlatformUnavailable

if TYPE_CHECKING:
    from refimpl.backend import Policy
    from refimpl.platform import Platform

#: A backend waits for xenstore while data flows on, so it can wait for long; a guest that waits does nothing else.
_BACKEND_STORE_SECONDS = 60.0
_XEN_DEVICE = Path("/dev/xen/evtchn")
XEN_STATUS = Path("/run/refimpl/backend.status")


def default_run_directory() -> str:
    """Return where a run lives unless it is told: a directory of this user's own."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    return str(Path(base, "refimpl") if base else Path(tempfile.gettempdir(), f"refimpl-{os.getuid()}"))


run_option = click.option(
    "--run",
    "run_directory",
    metavar="DIR",
    envvar="REFIMPL_RUN",
    default=default_run_directory,
    show_default="$XDG_RUNTIME_DIR/refimpl, or refimpl-UID in the temporary directory",
    help="Directory of the run: the store's sockets are there. Also REFIMPL_RUN.",
)
platform_option = click.option(
    "--platform",
    "platform_name",
    type=click.Choice(["auto", "shm", "xen"]),
    default="auto",
    show_default=True,
    help="What domains are: processes of this machine (shm), or Xen's. auto takes Xen where this is a Xen domain.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, a line an object.")
policy_option = click.option(
    "--policy",
    "policy_path",
    metavar="FILE",
    help="Rules and limits, after --deny and --allow; read again on SIGHUP. See `refimpl policy`.",
)
trace_file_option = click.option(
    "--trace-file", metavar="FILE", help="Print the trace there instead of on standard output."
)
ready_option = click.option("--ready-fd", type=int, hidden=True, help="Write a line here when ready.")


def report_ready(descriptor: int | None) -> None:
    """Tell the process that started us that we are ready."""
    if descriptor is not None:
        os.write(descriptor, b"ready\n")
        os.close(descriptor)


def choose_platform(name: str) -> str:
    """Return ``"shm"`` or ``"xen"``."""
    if name == "auto":
        return "xen" if _XEN_DEVICE.exists() else "shm"
    return name


def open_platform(name: str, run_directory: str, *, domid: int | None = None) -> Platform:
    """Become a domain: ``domid`` 0 the backend's, None a guest of its own."""
    if choose_platform(name) == "xen":
        from refimpl.xen import XenPlatform

        return XenPlatform.open()
    from refimpl.shm import ShmPlatform

    if not Path(run_directory).is_dir():
        raise PlatformUnavailable(f"nothing runs in {run_directory}: start `refimpl host` first, or name another --run")
    if domid is None:
        return ShmPlatform.join(run_directory)
    return ShmPlatform.join(run_directory, domid=domid, selectable=True, store_timeout=_BACKEND_STORE_SECONDS)


def status_path(platform_name: str, run_directory: str) -> str:
    """Return where the backend says what it does."""
    if choose_platform(platform_name) == "xen":
        return str(XEN_STATUS)
    from refimpl.shm.run_directory import status_path as path_in

    return path_in(run_directory, 0)


def parse_policy(
    allow: tuple[str, ...], deny: tuple[str, ...], *, path: str | None = None, allow_everything: bool = False
) -> Policy:
    """Return the policy of ``--deny``, ``--allow`` and ``--policy``, in this order: denials go before exceptions."""
    from refimpl.backend import Policy, Rule

    rules = [Rule.parse(text, allow=False, origin="--deny") for text in deny]
    rules += [Rule.parse(text, allow=True, origin="--allow") for text in allow]
    if path is None:
        return Policy(rules, allow_everything=allow_everything)
    from refimpl.backend.policy_file import read_policy

    return read_policy(path, first=rules, allow_everything=allow_everything)


def check_trace_file(path: str | None) -> None:
    """Raise Misuse for a trace file that cannot be written; one that can, is there afterwards."""
    if path is not None:
        try:
            open(path, "a").close()
        except OSError as error:
            raise Misuse(f"--trace-file {path}: {error.strerror}") from None


def parse_tcp_port(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    """Click callback: a TCP port number from 0 to 65535, with an error that says so."""
    if not (value.isascii() and value.isdigit() and int(value) <= 65535):
        raise click.BadParameter(f"{value!r} is not a TCP port number, 0 to 65535")
    return int(value)


def check_seconds(name: str, value: float | None) -> float | None:
    """Return a duration as it is. Raises Misuse for one that is not positive."""
    if value is not None and not value > 0:
        raise Misuse(f"{name} is a time in seconds above 0, not {value}")
    return value
