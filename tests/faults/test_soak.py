"""A small soak; the whole one is ``nox -s soak``, a tenth of it part of CI."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from refimpl.testing.processes import End, store
from refimpl.testing.soak import LAPS, soak


def test_a_small_soak_has_equal_hashes_and_leaves_everybody_flat(record_property) -> None:
    told: list[str] = []
    outcome = soak(connections=80, size_bytes=32 << 20, guests=4, tell=told.append)
    assert len(told) == LAPS
    assert told[-1].startswith(f"lap {LAPS} of {LAPS}: 0.0312 GiB each way, 0 hashes unequal")
    record_property("outcome", str(outcome))
    assert outcome.unequal == 0
    assert outcome.connections == 80
    assert outcome.size_bytes == 32 << 20
    assert len(outcome.backend) == len(outcome.guest) == LAPS
    assert outcome.is_flat, str(outcome)


def test_what_grows_is_not_called_flat() -> None:
    outcome = soak(connections=10, size_bytes=1000, guests=1)
    assert outcome.is_flat, str(outcome)
    outcome.backend[-1] = outcome.backend[0]._replace(descriptors=outcome.backend[0].descriptors + 1)
    assert not outcome.is_flat
    assert "NOT FLAT" in str(outcome)


def test_ends_that_were_killed_leave_no_names() -> None:
    """A soak ends its processes by killing them: the last of a run removes nothing of it then."""
    with TemporaryDirectory(prefix="refimpl-") as folder, End(store, f"{folder}/run") as storing:
        storing.heard()
        directory = f"{folder}/run"
        assert directory in _runs_in_shm()
    assert directory not in _runs_in_shm()


def _runs_in_shm() -> list[str]:
    found = []
    for anchor in Path("/dev/shm").glob("pvcalls-*-anchor"):
        with suppress(FileNotFoundError):
            found.append(anchor.read_text())
    return found
