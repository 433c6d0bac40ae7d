"""The page's drawings, made from the code: byte layouts, the state machine, what a backend does for a command."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from refimpl.commands.accept import AcceptRequest
from refimpl.commands.address_format import SOCKADDR, SOCKADDR_IN
from refimpl.commands.bind import BindRequest
from refimpl.commands.connect import ConnectRequest
from refimpl.commands.listen import ListenRequest
from refimpl.commands.message import Response
from refimpl.commands.poll import PollRequest
from refimpl.commands.release import ReleaseRequest
from refimpl.commands.ring import RING_PAGE
from refimpl.commands.socket import SocketRequest
from refimpl.data_ring.indexes_page import DATA_INTF
from refimpl.layout import Layout
from refimpl.speclink import vector_traces
from refimpl.speclink.page.state_drawing import state_machine
from refimpl.xenstore.state_machine import BACKEND, FRONTEND, FRONTEND_SHUTDOWN

_ROW = 16
#: Members of fewer bytes have no room for their name beside their offset.
_READABLE = 3
_LAYOUTS = {
    "commands_ring": (RING_PAGE, Response.LAYOUT),
    "socket": (SocketRequest.LAYOUT,),
    "connect": (ConnectRequest.LAYOUT,),
    "release": (ReleaseRequest.LAYOUT,),
    "bind": (BindRequest.LAYOUT,),
    "listen": (ListenRequest.LAYOUT,),
    "accept": (AcceptRequest.LAYOUT,),
    "poll": (PollRequest.LAYOUT,),
    "address_format": (SOCKADDR, SOCKADDR_IN),
    "indexes_page": (DATA_INTF,),
}


def of_section(section: str) -> str:
    """Return the drawings that belong to a section."""
    drawings = [byte_layout(layout) for layout in _LAYOUTS.get(section, ())]
    if section == "state_machine":
        drawings += [
            state_machine("frontend", FRONTEND, FRONTEND_SHUTDOWN),
            state_machine("backend", BACKEND),
            _traces(),
        ]
    drawings += [_sequence(name, steps) for name, steps in _steps().items() if name.split()[0].lower() == section]
    if not drawings:
        return ""
    return f'<details class="drawings" open><summary>Drawn from the code</summary>{"".join(drawings)}</details>'


def _steps() -> dict[str, list[dict[str, str]]]:
    return vector_traces.steps()


def byte_layout(layout: Layout) -> str:
    """Draw a layout, sixteen bytes a row; a long member or gap takes one row."""
    cells = "".join(_cells(layout))
    return (
        f"<figure><figcaption><b>{escape(layout.name)}</b>, {layout.size} bytes</figcaption>"
        f'<div class="bytes" role="img" aria-label="{escape(layout.diagram(), quote=True)}">{cells}</div></figure>'
    )


def _cells(layout: Layout) -> Iterator[str]:
    members = [(f.name, f.offset, f.size, f.is_padding) for f in layout.fields]
    end = members[-1][1] + members[-1][2]
    if end < layout.size:
        members.append(("", end, layout.size - end, True))
    for name, offset, size, is_padding in members:
        label = "" if is_padding else name
        for at, count, is_long in _pieces(offset, size):
            column = at % _ROW + 1
            kind = " padding" if is_padding else " tight" if count < _READABLE else ""
            extent = f" <small>{count} bytes</small>" if is_long else ""
            title = f"{name or 'padding'}: {size} bytes at {offset}"
            yield (
                f'<span class="cell{kind}" style="grid-column:{column}/span {min(count, _ROW)}" title="{title}">'
                f"<small>{at}</small> {escape(label)}{extent}</span>"
            )


def _pieces(offset: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Cut a member where rows end; whole rows in its middle become one. Yields offset, bytes, whether shortened."""
    end = offset + size
    while offset < end:
        left = end - offset
        whole_rows = left // _ROW * _ROW
        if offset % _ROW == 0 and whole_rows > _ROW:
            yield offset, whole_rows, True
            offset += whole_rows
        else:
            count = min(left, _ROW - offset % _ROW)
            yield offset, count, False
            offset += count


def _sequence(name: str, steps: list[dict[str, str]]) -> str:
    """Draw what a backend does between request and response."""
    command = name.split()[0]
    members = ", ".join(f.name for layout in _LAYOUTS[command.lower()] for f in layout.fields[2:] if not f.is_padding)
    rows = [f'<li class="request"><span><b>{command}</b> {members}</span></li>']
    rows += [f'<li class="step"><b>{s["step"]}</b> {_plain(s["is"])}</li>' for s in steps]
    rows.append('<li class="response"><span>ret, id</span></li>')
    caption = f"<figcaption><b>{name}</b>: frontend on the left, backend on the right</figcaption>"
    return f'<figure>{caption}<ol class="sequence">{"".join(rows)}</ol></figure>'


def _plain(text: str) -> str:
    return escape(text.replace("``", ""))


def _traces() -> str:
    """Draw who does what at a start and at a shutdown, until nothing is left to do."""
    figures = []
    for found in vector_traces.states()["traces"]:
        rows = "".join(
            f'<li class="{"left" if step["who"] == "frontend" else "right"}">{escape(step["does"])}</li>'
            for step in found["trace"]
        )
        caption = f"<figcaption><b>{escape(found['what'])}</b>: frontend left, backend right</figcaption>"
        figures.append(f'<figure>{caption}<ol class="trace">{rows}</ol></figure>')
    return "".join(figures)
