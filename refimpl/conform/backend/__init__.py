"""The probes of a backend, in the document's order, hostile ones last. A guest carries them out."""

from __future__ import annotations

from refimpl.conform.backend import (
    accept_and_poll,
    bind_and_listen,
    commands_ring,
    connect,
    hostile,
    indexes_page,
    rationale,
    release,
    socket,
    state_machine,
    workflow,
    xenstore,
)
from refimpl.conform.probes import Probe

_SECTIONS = (
    rationale,
    xenstore,
    state_machine,
    commands_ring,
    socket,
    connect,
    release,
    bind_and_listen,
    accept_and_poll,
    indexes_page,
    workflow,
    hostile,
)
PROBES: tuple[Probe, ...] = tuple(each for section in _SECTIONS for each in section.probe.all)
