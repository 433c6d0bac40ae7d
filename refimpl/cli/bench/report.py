"""The bench's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from refimpl.cli.bench.rounds import Result


def print_table(machine: Mapping[str, object], results: Sequence[Result]) -> None:
    """Print what was measured, a line a figure, on the machine's name and load."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("work", "subject"):
        table.add_column(name)
    for name in ("median", "p99", "to direct", "min", "max"):
        table.add_column(name, justify="right")
    last = ""
    for result in results:
        work = describe_work(result)
        table.add_row(work if work != last else "", describe_subject(result), *_figures(result))
        last = work
    console = Console(width=None if Console().is_terminal else 100)
    console.print(table)
    console.print(
        f"medians of {max((result.rounds for result in results), default=0)} rounds on {machine['cores']} cores of "
        f"{machine['processor']}, {machine['python']}, load {machine['load']}",
        highlight=False,
        soft_wrap=True,
    )


def describe_work(result: Result) -> str:
    """Return the work in a few words: ``64 KiB out``, ``1 byte there and back``."""
    if result.work == "stream":
        return f"{size_text(result.message_bytes or 0)} {result.direction}"
    if result.work == "sockets":
        return f"a message, {result.open_sockets} sockets" if result.open_sockets != 1 else "a message, 1 socket"
    if result.work == "rtt":
        return f"1 byte there and back, ends {result.placement}" if result.placement else "1 byte there and back"
    if result.work == "idle":
        return f"nothing, {result.open_sockets} sockets"
    return "connect and close"


def describe_subject(result: Result) -> str:
    """Return the subject in a few words: ``PV Calls, order 9``."""
    names = {"direct": "TCP, direct", "socat": "socat", "socat-256k": "socat -b 262144"}
    return names.get(result.subject, f"PV Calls, order {result.ring_order}")


def size_text(count: int) -> str:
    """Return a number of bytes as people write it."""
    for unit, shift in (("MiB", 20), ("KiB", 10)):
        if count >> shift:
            return f"{count >> shift} {unit}"
    return f"{count} B"


def _figures(result: Result) -> tuple[str, ...]:
    ratios = (result.ratio_to_direct, result.ratio_min, result.ratio_max)
    as_text = ("" if ratio is None or result.subject == "direct" else f"{ratio:.2f}" for ratio in ratios)
    unit = result.unit.replace("us", "µs")
    p99 = f"{result.p99:.1f}" if result.p99 is not None else ""
    return f"{_number(result.median)} {unit}", p99, *as_text


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 or not value else f"{value:.3f}"
