"""The exception tree: one base, fields that survive, one line each."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from refimpl import errors
from refimpl.errors import (
    CommandRefused,
    DeviceGone,
    GrantRefused,
    LimitReached,
    Misuse,
    PeerViolation,
    PlatformError,
    PortRefused,
    RefimplError,
    StoreError,
    StoreNoEntry,
)

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, RefimplError)]
EXAMPLES = [
    (
        PeerViolation("SEC-B-1", "req_prod", 33, "at most 32", 7),
        "domain 7 broke SEC-B-1: req_prod is 33, allowed: at most 32",
    ),
    (
        PeerViolation("WORKFLOW-13", "in_prod", 9, "at most 8"),
        "the peer broke WORKFLOW-13: in_prod is 9, allowed: at most 8",
    ),
    (CommandRefused(-22, "a length of 29"), "a length of 29 (-22)"),
    (GrantRefused(3, (8, 9)), "domain 3 grants us no such map (refs 8, 9)"),
    (GrantRefused(3, tuple(range(512))), "domain 3 grants us no such map (refs 0, 1, 2, 3, ...)"),
    (PortRefused(5, "in use", 2), "port 5 of domain 2: in use"),
    (LimitReached("grants", 1024, "end some"), "no more grants (limit 1024); end some"),
    (StoreNoEntry("ENOENT", "device/pvcalls", "gone"), "xenstore ENOENT device/pvcalls: gone"),
]


@pytest.mark.parametrize("kind", ALL)
def test_every_exception_is_in_the_tree_the_module_draws(kind: type[RefimplError]) -> None:
    assert issubclass(kind, RefimplError)
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(("error", "words"), EXAMPLES)
def test_an_exception_is_one_line_and_keeps_its_fields_when_copied(error: RefimplError, words: str) -> None:
    assert str(error) == words
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert vars(other) == vars(error)
        assert str(other) == words


def test_exceptions_are_what_python_callers_expect() -> None:
    assert issubclass(Misuse, ValueError)
    assert issubclass(DeviceGone, ConnectionError)
    assert issubclass(GrantRefused, PlatformError)
    assert issubclass(StoreNoEntry, StoreError)
