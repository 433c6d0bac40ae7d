"""Draw a table of the state machine: states in a row, an arc for each way from one to another."""

from __future__ import annotations

from html import escape

from refimpl.xenstore.state_machine import Actions, Table, XenbusState

_STATES = [state for state in XenbusState if XenbusState.INITIALISING <= state <= XenbusState.CLOSED]
_GAP, _HALF, _HEIGHT = 118, 50, 34
_LEFT, _RISE = 59, 30


def state_machine(end: str, table: Table, shutdown: Actions = ()) -> str:
    """Return an SVG of one end's table: arcs to the right pass above, to the left below; on each, the peer's states.

    ``shutdown`` is what the end does of itself, when a program closes it in Connected.
    """
    arcs = _arcs(table)
    own = [(_STATES.index(XenbusState.CONNECTED), _STATES.index(a.next_state)) for a in shutdown if a.next_state]
    above = max((b - a for a, b in arcs if b > a), default=0)
    below = max((a - b for a, b in arcs if b < a), default=0)
    middle = above * _RISE + 40
    width, height = _GAP * len(_STATES), middle + below * _RISE + 50
    parts = [_arc(a, b, _numbers(peers), middle) for (a, b), peers in arcs.items()]
    parts += [_arc(a, b, "close", middle, "arc own") for a, b in own]
    parts += [_node(number, state, middle) for number, state in enumerate(_STATES)]
    words = "; ".join(
        f"{_name(_STATES[a])} to {_name(_STATES[b])} when the peer is {', '.join(map(_name, peers))}"
        for (a, b), peers in arcs.items()
    )
    words += "".join(f"; {_name(_STATES[a])} to {_name(_STATES[b])} when a program closes it" for a, b in own)
    of_itself = "; dashed, what it does of itself" if own else ""
    return (
        f"<figure><figcaption><b>The {end}</b>: on each arc, the peer's states that make it go{of_itself}</figcaption>"
        f'<div class="scroll"><svg class="states" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(words)}">'
        f"{_ARROW.format(end=end)}{''.join(parts).replace('#head', f'#head-{end}')}</svg></div></figure>"
    )


_ARROW = (
    '<defs><marker id="head-{end}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
)


def _arcs(table: Table) -> dict[tuple[int, int], list[XenbusState]]:
    """Return, by the numbers of the states left and reached, the peer's states that make it so."""
    found: dict[tuple[int, int], list[XenbusState]] = {}
    for (own, peer), actions in table.items():
        reached = [a.next_state for a in actions if a.next_state is not None]
        if reached:
            arc = (_STATES.index(own), _STATES.index(reached[-1]))
            found.setdefault(arc, []).append(peer)
    return dict(sorted(found.items(), key=lambda item: -abs(item[0][0] - item[0][1])))


def _name(state: XenbusState) -> str:
    return "".join(word.capitalize() for word in state.name.split("_"))


def _node(number: int, state: XenbusState, middle: int) -> str:
    x = number * _GAP + _LEFT
    return (
        f'<rect x="{x - _HALF}" y="{middle - _HEIGHT // 2}" width="{2 * _HALF}" height="{_HEIGHT}" rx="8"/>'
        f'<text x="{x}" y="{middle + 4}">{_name(state)} {state.value}</text>'
    )


def _arc(start: int, end: int, label: str, middle: int, kind: str = "arc") -> str:
    side = -1 if end > start else 1
    # Arcs leave a state to the right of its middle and arrive left of it, so that they do not meet there.
    x1 = start * _GAP + _LEFT - side * 18
    x2 = end * _GAP + _LEFT + side * 18
    edge = middle + side * _HEIGHT // 2
    top = edge + side * abs(end - start) * _RISE
    control = edge + (top - edge) * 4 // 3
    path = f"M{x1} {edge} C{x1} {control} {x2} {control} {x2} {edge}"
    return (
        f'<path class="{kind}" d="{path}" marker-end="url(#head)"/>'
        f'<text class="label" x="{(x1 + x2) // 2}" y="{top + 4}">{label}</text>'
    )


def _numbers(peers: list[XenbusState]) -> str:
    return " ".join(str(int(peer)) for peer in sorted(peers))
