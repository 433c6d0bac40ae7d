"""What a guest cannot see of its backend, and why."""

from __future__ import annotations

#: Requirement or rule -> why no probe is its test.
REASONS = {
    "RING-11": "a backend need do nothing for it: it bounds what later versions may add",
    "EXPAND-1": "it allows later versions something",
    "EXPAND-3": "it is about later versions",
    "SEC-B-2": "only a hook in the backend can change a slot between its copy and its use",
    "SEC-B-8": "a guest can only name its own grants and ports",
    "SEC-B-12": "what is inspected is inspected inside",
    "SEC-B-15": "what a guest may reach is its owner's choice",
    "SEC-B-20": "how memory is mapped shows inside only",
    "SEC-B-21": "a process's privileges show in the backend's domain only",
    "SEC-B-23": "a backend that keeps a ring and one that maps it anew look the same from the guest",
    "SEC-B-24": "half-open connects need an address outside that stays silent",
}
