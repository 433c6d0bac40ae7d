"""The streams as a picture: throughput relative to a direct socket, a bar a subject, a group a size of message."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from refimpl.cli.bench.report import describe_subject, size_text
from refimpl.cli.bench.rounds import Result

_COLOURS = ("#c6dbef", "#9ecae1", "#4292c6", "#08519c", "#fdae6b", "#e6550d")
_PANEL_HEIGHT, _PANEL_GAP, _LEFT, _TOP, _RIGHT = 170, 56, 52, 36, 150
_BAR, _GROUP_GAP = 13, 20
#: The axis: powers of two, from 1/64 to 8 times direct.
_LEAST, _MOST = -6, 3


def plot(results: Sequence[Result]) -> str:
    """Return the picture, an SVG document."""
    streams = [result for result in results if result.work == "stream" and result.subject != "direct"]
    sizes = sorted({result.message_bytes or 0 for result in streams})
    names = list(dict.fromkeys(describe_subject(result) for result in streams))
    group_width = len(names) * _BAR + _GROUP_GAP
    width = _LEFT + max(1, len(sizes)) * group_width + _RIGHT
    height = _TOP + 2 * (_PANEL_HEIGHT + _PANEL_GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(_LEFT, 16, "Throughput relative to a direct TCP socket (1 = as fast)", size=13),
    ]
    for number, direction in enumerate(("out", "in")):
        top = _TOP + number * (_PANEL_HEIGHT + _PANEL_GAP)
        parts += _axis(top, width - _RIGHT, direction)
        for place, size in enumerate(sizes):
            left = _LEFT + _GROUP_GAP // 2 + place * group_width
            parts.append(_text(left, top + _PANEL_HEIGHT + 14, size_text(size)))
            for result in streams:
                if (result.direction, result.message_bytes) == (direction, size):
                    index = names.index(describe_subject(result))
                    parts.append(_bar(result, left + index * _BAR, top, _COLOURS[index % len(_COLOURS)]))
    parts += _legend(names, width - _RIGHT + 14)
    return "\n".join([*parts, "</svg>", ""])


def _height_of(ratio: float) -> float:
    """Return how far up the panel a ratio is, in pixels."""
    power = min(_MOST, max(_LEAST, math.log2(max(ratio, 1e-9))))
    return (power - _LEAST) / (_MOST - _LEAST) * _PANEL_HEIGHT


def _axis(top: int, right: int, direction: str) -> Iterator[str]:
    for power in range(_LEAST, _MOST + 1):
        y = top + _PANEL_HEIGHT - _height_of(2.0**power)
        colour = "#333" if power == 0 else "#ddd"
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{colour}"/>'
        label = str(2**power) if power >= 0 else f"1/{2**-power}"
        yield _text(_LEFT - 6, y + 4, label, anchor="end")
    yield _text(_LEFT, top - 4, f"messages {direction}")


def _bar(result: Result, left: int, top: int, colour: str) -> str:
    height = _height_of(result.ratio_to_direct or 0.0)
    title = f"{describe_subject(result)}: {result.ratio_to_direct:.2f} ({result.ratio_min:.2f}-{result.ratio_max:.2f})"
    y = top + _PANEL_HEIGHT - height
    return (
        f'<rect x="{left}" y="{y:.1f}" width="{_BAR - 1}" height="{height:.1f}" fill="{colour}">'
        f"<title>{title}</title></rect>"
    )


def _legend(names: Sequence[str], left: int) -> Iterator[str]:
    for index, name in enumerate(names):
        y = _TOP + 4 + index * 18
        yield f'<rect x="{left}" y="{y}" width="11" height="11" fill="{_COLOURS[index % len(_COLOURS)]}"/>'
        yield _text(left + 17, y + 10, name)


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{text}</text>'
