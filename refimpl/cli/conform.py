"""``refimpl conform``: ask another implementation whether it keeps the document's requirements."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refimpl.cli.options import check_seconds, choose_platform, open_platform, platform_option, run_option
from refimpl.cli.processes import Child
from refimpl.cli.signals import calling
from refimpl.errors import Misuse, RefimplError

if TYPE_CHECKING:
    from refimpl.conform.report import Report
    from refimpl.platform import Platform
    from refimpl.speclink.catalogue import Catalogue

_DRIVER = Path(__file__).parent.parent / "conform" / "frontend" / "driver.py"


@click.group()
def conform() -> None:
    """Probe another implementation of either end, requirement by requirement, and report.

    \b
        refimpl conform backend             in a guest: probe the backend that serves it
        refimpl conform frontend            in dom0: be the backend, and look at the frontend that comes
        refimpl conform driver > driver.py  what to run in that frontend's guest

    Each requirement of the document that concerns the end under test comes out as one of four: pass; fail; differs
    under an erratum, where the document is unclear and the end chose another way than refimpl (`refimpl spec show
    E-...` has both); or not observable, with the reason.

    Exit status: 0 nothing failed, 1 something did, 2 misuse.
    """


def _report_options(command: Callable[..., Report]) -> Callable[..., int]:
    """Add the options of what is asked and how it is reported; the command returns the report."""

    @click.option("--id", "ids", multiple=True, metavar="ID", help="Only this requirement or rule; may be repeated.")
    @click.option("--subject", default="an implementation", help="What is probed, for the report's head.")
    @click.option("--write", "prefix", metavar="PREFIX", help="Also write the report to PREFIX.json and PREFIX.txt.")
    @click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object, not as a table.")
    @click.option("--quiet", is_flag=True, help="Say nothing of the probes while they go on.")
    @click.option(
        "--project",
        type=click.Path(path_type=Path),
        help="Where spec/ is (default: here, above, or beside the package).",
    )
    @functools.wraps(command)
    def reporting(
        ids: tuple[str, ...],
        prefix: str | None,
        as_json: bool,
        quiet: bool,
        project: Path | None,
        **options: Any,
    ) -> int:
        catalogue = _load_catalogue(project)
        for id in (*ids, *options.get("skip", ())):
            if id not in catalogue.requirements and id not in catalogue.rules:
                raise Misuse(f"there is no requirement or rule {id}")
        report = command(catalogue=catalogue, ids=ids, say=_say_nothing if quiet else _say, **options)
        if prefix is not None:
            Path(f"{prefix}.json").write_text(report.to_json() + "\n", encoding="utf-8")
            Path(f"{prefix}.txt").write_text(report.to_text(), encoding="utf-8")
        print(report.to_json() if as_json else report.to_text(), end="\n" if as_json else "")
        return 1 if report.has_failed else 0

    return reporting


def _load_catalogue(project: Path | None) -> Catalogue:
    from refimpl.speclink.catalogue import load
    from refimpl.speclink.project import NoProject, find

    for start in (project,) if project else (Path.cwd(), Path(__file__).resolve().parents[2]):
        with contextlib.suppress(NoProject):
            return load(find(start.absolute()))
    raise Misuse("no spec/ with the requirements: run this in a clone of the project, or say --project DIR")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _say_nothing(_line: str) -> None:
    pass


@conform.command()
@run_option
@platform_option
@click.option("--hostile", is_flag=True, help="Then do what no honest guest does; it may bring the backend down.")
@click.option("--skip", multiple=True, metavar="ID", help="Leave out the probes of this one; may be repeated.")
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="Address of the backend's that this guest listens on."
)
@click.option("--patience", type=float, default=5.0, show_default=True, help="Seconds to wait for any one answer.")
@_report_options
def backend(
    run_directory: str,
    platform_name: str,
    hostile: bool,
    skip: tuple[str, ...],
    address: str,
    patience: float,
    subject: str,
    ids: tuple[str, ...],
    catalogue: Catalogue,
    say: Callable[[str], None],
) -> Report:
    """Probe the backend that serves this guest. It takes the guest's PV Calls device, and leaves it Closed.

    It needs nobody's help and no network: all connections go from this guest to this guest, by way of the backend and
    its loopback address. Requests are written byte by byte: no frontend of refimpl's is used. Each probe is on its own:
    one that fails has its connection replaced before the next, and takes --patience a few times at most.

    \b
        refimpl host &                                     # between processes of this machine
        refimpl conform backend --hostile
    """
    check_seconds("--patience", patience)
    from refimpl.conform.backend import PROBES
    from refimpl.conform.backend.guest import Guest
    from refimpl.conform.backend.unseen import REASONS
    from refimpl.conform.report import make_report
    from refimpl.conform.walk import probe_backend
    from refimpl.frontend.arrival import ARRIVAL_SECONDS, await_device

    asked = [p for p in PROBES if (hostile or not p.is_hostile) and not set(skip) & set(p.ids)]
    asked = [p for p in asked if not ids or set(ids) & set(p.ids)]
    with open_platform(platform_name, run_directory) as platform:
        await_device(platform, 0, ARRIVAL_SECONDS)
        release = platform.hold_frontend()
        guest = Guest(platform, host=address, patience=patience)
        try:
            outcomes = list(probe_backend(guest, asked, say))
        finally:
            guest.disconnect()
            release()
        return make_report(
            "backend",
            catalogue,
            outcomes,
            subject=subject,
            platform=platform.name,
            hostile=hostile,
            unseen=REASONS | dict.fromkeys(skip, "left out (--skip)"),
            only=ids,
        )


@conform.command()
@run_option
@platform_option
@click.option("--guest", type=click.IntRange(0), help="Domain of the frontend (default: the first that has a device).")
@click.option("--driver", metavar="FILE", help="Run this Python program as the guest; shm only. - is our own driver.")
@click.option("--seconds", type=float, default=600.0, show_default=True, help="How long to wait and serve, at most.")
@_report_options
def frontend(
    run_directory: str,
    platform_name: str,
    guest: int | None,
    driver: str | None,
    seconds: float,
    subject: str,
    ids: tuple[str, ...],
    catalogue: Catalogue,
    say: Callable[[str], None],
) -> Report:
    """Be the backend of one guest, and look at all that its frontend writes; Ctrl-C ends it, with the report.

    The connections of the guest's programs end here, at services made up by TCP port number, as the driver's calls
    need them; no network is behind them. What no program called is not observable: run the driver in the guest.

    \b
    On Xen (stop the backend there is, then run this, then start the guest):
        refimpl conform frontend --guest 3 --write linux-frontend
        python3 driver.py --sockets family:19              # in guest 3; `refimpl conform driver` prints it

    \b
    Between processes of this machine it runs the store and the toolstack too, in the place of `refimpl host`:
        refimpl conform frontend --platform shm --driver -
    """
    check_seconds("--seconds", seconds)
    on_shm = choose_platform(platform_name) == "shm"
    if driver is not None and not on_shm:
        raise Misuse("--driver is for shm: on Xen run the driver in the guest")
    from refimpl.conform.frontend import PROBES
    from refimpl.conform.frontend.unseen import REASONS
    from refimpl.conform.report import make_report
    from refimpl.conform.walk import run

    observed = None
    deadline, stopped = time.monotonic() + seconds, [False]
    with contextlib.ExitStack() as stack:
        stack.enter_context(calling(functools.partial(stopped.__setitem__, 0, True)))
        if on_shm:
            for words in (("store",), ("toolstack", "serve")):
                stack.enter_context(Child(*words, "--run", run_directory, waits_until_ready=True))
        platform = stack.enter_context(open_platform(platform_name, run_directory, domid=0))
        stack.callback(platform.hold_backend())
        running = stack.enter_context(_driver(driver, run_directory)) if driver is not None else None

        def is_over() -> bool:
            ended = running is not None and running.poll() is not None
            return stopped[0] or ended or time.monotonic() > deadline

        say(f"domain {platform.domid} on {platform.name} waits for a frontend")
        observed = _observe(platform, guest, say, is_over)
    asked = [probe for probe in PROBES if not ids or set(ids) & set(probe.ids)]
    return make_report(
        "frontend",
        catalogue,
        [run(probe, observed) for probe in asked],
        subject=subject,
        platform=platform.name,
        hostile=False,
        unseen=REASONS,
        only=ids,
    )


def _observe(platform: Platform, guest: int | None, say: Callable[[str], None], is_over: Callable[[], bool]) -> object:
    from refimpl.conform.frontend.server import Server

    while guest is None or not _has_device(platform, guest):
        found = _devices(platform)
        guest = found[0] if guest is None and found else guest
        if is_over():
            raise RefimplError("no guest with a PV Calls device came")
        time.sleep(0.05)
    say(f"guest {guest}")
    server = Server(platform, guest, say)
    server.serve(is_over)
    if not server.observed.nodes:
        raise RefimplError(f"the frontend of guest {guest} did not come")
    return server.observed


def _devices(platform: Platform) -> list[int]:
    try:
        names = platform.store.list(f"/local/domain/{platform.domid}/backend/pvcalls")
    except RefimplError:
        return []
    return sorted(int(name) for name in names if name.isdecimal() and _has_device(platform, int(name)))


def _has_device(platform: Platform, guest: int) -> bool:
    return platform.store.read_or_none(f"/local/domain/{guest}/device/pvcalls/0/state") is not None


@contextlib.contextmanager
def _driver(file: str, run_directory: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, str(_DRIVER) if file == "-" else file]
    environment = {**os.environ, "REFIMPL_RUN": run_directory}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


@conform.command()
def driver() -> None:
    """Print a program of plain socket calls, to run in the guest whose frontend `conform frontend` looks at.

    It is one file of Python that runs anywhere: with refimpl's frontend, with sockets of an address family (as the glue
    module of tests/xen/modules makes them for Linux's frontend), or with ordinary sockets where the kernel sends those
    to the frontend. Its --help says how.
    """
    print(_DRIVER.read_text(encoding="utf-8"), end="")
