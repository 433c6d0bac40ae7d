"""The conformance suite: what any platform must do, as checks that are given a factory of live domains."""

from __future__ import annotations

from refimpl.testing.conformance import (
    closing,
    death,
    event_channels,
    fork,
    grant_endings,
    grant_refusals,
    grants,
    leaks,
    ports,
    store_domains,
    store_nodes,
    store_watches,
    waiting,
)
from refimpl.testing.conformance.checks import CHECKS

#: The modules whose checks are listed; to import one is to list its checks.
MODULES = (
    grants,
    grant_refusals,
    grant_endings,
    event_channels,
    ports,
    waiting,
    store_nodes,
    store_watches,
    store_domains,
    death,
    closing,
    fork,
    leaks,
)

#: The groups of checks, in order.
GROUPS = ("grants", "event_channels", "store", "death", "fork", "leaks")

CHECKS.sort(key=lambda check: GROUPS.index(check.group))
