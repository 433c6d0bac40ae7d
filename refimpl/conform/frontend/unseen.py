"""What a backend cannot see of its frontend, and why."""

from __future__ import annotations

#: Requirement -> why no probe is its test.
REASONS = {
    "XS-4": "the toolstack makes devices; a second one would have to be made",
    "BNODE-6": "it needs a backend that offers nothing, to which a frontend may not come back",
    "EXPAND-3": "it is about later versions",
    "NORING-3": "reading leaves no trace in memory",
    "NORING-4": "a saving that version 1 leaves unused",
    "WORKFLOW-3": "what is read first leaves no trace in memory",
    "WORKFLOW-4": "a missing barrier shows by chance only, and on some processors",
    "WORKFLOW-5": "a program that writes after the end of its connection would be needed",
    "WORKFLOW-12": "whether an event was for what was taken or for what was sent cannot be told",
}
