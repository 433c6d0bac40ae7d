"""The probes of a frontend, in the document's order: each looks at what was observed while programs made calls."""

from __future__ import annotations

from refimpl.conform.frontend import requests, rings, setting_up
from refimpl.conform.probes import Probe

PROBES: tuple[Probe, ...] = tuple(each for section in (setting_up, requests, rings) for each in section.probe.all)
