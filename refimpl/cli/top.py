"""``refimpl top``: a running backend's guests and sockets, live."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from refimpl.cli.options import json_option, platform_option, run_option, status_path
from refimpl.cli.signals import stop_descriptor
from refimpl.errors import PlatformUnavailable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Lines = list[dict[str, Any]]
_UNITS = ("", "k", "M", "G", "T", "P")


@click.command()
@run_option
@platform_option
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Look once and end.")
@json_option
def top(run_directory: str, platform_name: str, interval: float, once: bool, as_json: bool) -> None:
    """Show the backend's guests and sockets: bytes, ring fill, notifications, until Ctrl-C.

    `in` and `out` are the rings as the document names them: in towards the guest, out from it. With --json each look is
    an object with `backend`, `guests` and `sockets`.
    """
    path = status_path(platform_name, run_directory)
    show = _print_json if as_json else _print_tables
    first = _look(path)
    if once:
        show(first, {})
        return
    if as_json or not sys.stdout.isatty():
        for lines, rates in _looks(path, first, interval):
            show(lines, rates)
        return
    from rich.live import Live

    with Live(_tables(first, {}), screen=True, auto_refresh=False) as live:
        for lines, rates in _looks(path, first, interval):
            live.update(_tables(lines, rates), refresh=True)


def _look(path: str) -> Lines:
    from refimpl.backend.status import ask

    try:
        lines = ask(path)
    except PermissionError:
        raise PlatformUnavailable(f"{path} is another user's: look as the user who runs the backend") from None
    except (OSError, ValueError):
        lines = []
    if not lines:
        raise PlatformUnavailable(f"no backend answers at {path}: start `refimpl host` or `refimpl backend`")
    return lines


def _looks(path: str, lines: Lines, interval: float) -> Any:
    """Yield the lines of each look, with the bytes a second since the one before, by guest and socket."""
    from refimpl.ready import is_readable

    rates: dict[Any, tuple[float, float]] = {}
    with stop_descriptor() as stopping:
        while True:
            yield lines, rates
            if is_readable(stopping, interval):
                return
            former, lines = lines, _look(path)
            rates = _rates(former, lines)


def _key(line: dict[str, Any]) -> Any:
    return line["kind"], line.get("guest"), line.get("id")


def _rates(former: Lines, lines: Lines) -> dict[Any, tuple[float, float]]:
    seconds: float = max(1e-3, lines[0]["at"] - former[0]["at"])
    before = {_key(line): line for line in former if "bytes_in" in line}

    def rate(line: dict[str, Any], name: str) -> float:
        moved: int = line[name] - before[_key(line)][name]
        return max(0, moved) / seconds

    known = [line for line in lines if "bytes_in" in line and _key(line) in before]
    return {_key(line): (rate(line, "bytes_in"), rate(line, "bytes_out")) for line in known}


def _print_json(lines: Lines, _rates: object) -> None:
    guests, sockets = ([line for line in lines if line["kind"] == kind] for kind in ("guest", "socket"))
    print(json.dumps({"time": time.time(), "backend": lines[0], "guests": guests, "sockets": sockets}), flush=True)


def _print_tables(lines: Lines, rates: dict[Any, tuple[float, float]]) -> None:
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(_tables(lines, rates))


def _tables(lines: Lines, rates: dict[Any, tuple[float, float]]) -> RenderableType:
    from rich.console import Group

    guests = _table("guest", "state", "sockets", "calls", "refused", "in", "in/s", "out", "out/s", "notified")
    sockets = _table(
        "guest", "socket", "state", "local", "remote", "in", "out", "in fill", "out fill", "notified", "events"
    )
    for line in lines[1:]:
        per_second = [_amount(rate) for rate in rates.get(_key(line), ())] or ["", ""]
        (guests if line["kind"] == "guest" else sockets).add_row(*_row(line, per_second))
    return Group(f"backend: domain {lines[0]['domid']}, process {lines[0]['pid']}", guests, sockets)


def _table(*names: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name in ("state", "local", "remote") else "right", no_wrap=True)
    return table


def _row(line: dict[str, Any], per_second: list[str]) -> list[str]:
    state = line["state"].title().replace("_", "")
    moved = [_amount(line.get(name)) for name in ("bytes_in", "bytes_out")]
    notified = _count(line.get("notifications_sent"))
    if line["kind"] == "guest":
        sockets = f"{line['sockets']}/{line['most_sockets']}" if "sockets" in line else ""
        counts = [_count(line[name]) for name in ("commands", "refused")]
        return [str(line["guest"]), state, sockets, *counts, moved[0], per_second[0], moved[1], per_second[1], notified]
    fill = [_fill(line, name) for name in ("in_used", "out_used")]
    addresses = [line["local"] or "", line["remote"] or ""]
    return [str(line["guest"]), f"{line['id']:#x}", state, *addresses, *moved, *fill, notified,
            _count(line.get("events_received"))]  # fmt: skip


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _fill(line: dict[str, Any], name: str) -> str:
    return f"{100 * line[name] / line['ring_size']:.0f} %" if name in line else ""


def _amount(value: float | None) -> str:
    """Return bytes as a person reads them: 999, 1.5k, 20M."""
    if value is None:
        return ""
    unit = 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f}{_UNITS[unit]}" if unit and value < 10 else f"{value:.0f}{_UNITS[unit]}"
