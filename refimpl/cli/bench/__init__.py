"""``refimpl bench``: PV Calls beside a direct TCP socket and socat's relays, on this machine, now."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from refimpl.cli.options import json_option
from refimpl.cli.processes import stop_nobodys
from refimpl.cli.signals import unwinding
from refimpl.errors import Misuse

_FEWEST_ROUNDS = 9
_NO_SOCAT = "socat is not installed and so not compared: Debian's package `socat` would add it"


@click.command()
@click.option("--quick", is_flag=True, help="About a minute: three sizes of message, two ring orders.")
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=_FEWEST_ROUNDS, show_default=True, help="How many rounds."
)
@click.option(
    "--only",
    type=click.Choice(["stream", "rtt", "connect", "sockets", "idle"]),
    multiple=True,
    help="Measure this alone; may be repeated.",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE.svg",
    help="Draw the streams' ratios as well.",
)
@json_option
def bench(quick: bool, rounds: int, only: tuple[str, ...], plot_file: Path | None, as_json: bool) -> None:
    """Compare PV Calls with a direct TCP socket, and with socat's relays where it is installed.

    Every round starts a run, guests, peers and relays of its own, and gives each case to one subject after another. A
    ratio is of two figures of the same round; the table has medians over the rounds, and the least and largest ratio.

    stream: what arrives in a second, each way. rtt: a byte there and back; where the system puts two ends decides much
    of that, so it is measured too with each on a processor of its own, and with both on one. connect: connections made
    and closed. sockets: what a message costs with so many sockets open. idle: what the backend needs for each of a
    thousand sockets on which nothing happens, and for ten seconds of that; once.
    """
    from refimpl.cli.bench.idle import IDLE_SECONDS, QUICK_SECONDS, measure_idle
    from refimpl.cli.bench.machine import describe_machine
    from refimpl.cli.bench.plot import plot
    from refimpl.cli.bench.report import print_table
    from refimpl.cli.bench.rounds import measurement_count, run_rounds
    from refimpl.cli.bench.subjects import has_socat, subjects
    from refimpl.cli.bench.workloads import FULL, QUICK, WORKS, cases

    if plot_file is not None:
        try:
            plot_file.touch()  # Rather now than after all the work.
        except OSError as error:
            raise Misuse(f"--plot {plot_file}: {error.strerror}") from None
    if not has_socat():
        print(f"refimpl: {_NO_SOCAT}", file=sys.stderr)
    _allow_many_descriptors()
    machine = describe_machine()
    compared, measured = subjects(quick=quick), cases(quick=quick, only=only or WORKS)
    with unwinding(stop_nobodys), _progress(measurement_count(compared, measured, rounds)) as tick:
        results = run_rounds(compared, measured, QUICK if quick else FULL, rounds, tick) if measured else []
        if not only or "idle" in only:
            results += measure_idle(QUICK_SECONDS if quick else IDLE_SECONDS)
    if plot_file is not None:
        plot_file.write_text(plot(results), encoding="utf-8")
    if as_json:
        print(json.dumps({"machine": machine, "results": [dataclasses.asdict(result) for result in results]}))
    else:
        print_table(machine, results)


def _allow_many_descriptors() -> None:
    """Let our children have as many descriptors as we may ask for: a thousand sockets need two thousand."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show how far it is, on a terminal; give what is to be called after each measurement."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=total)
        yield lambda: progress.advance(task)
