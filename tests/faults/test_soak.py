"""A small soak; the whole one is ``nox -s soak``."""

from __future__ import annotations

from refimpl.testing.soak import soak


def test_a_small_soak_has_equal_hashes_and_leaves_a_flat_backend(record_property) -> None:
    outcome = soak(scale=0.0003, guests=4)
    record_property("outcome", str(outcome))
    assert outcome.unequal == 0
    assert outcome.connections >= 28
    assert outcome.size_bytes > 30 << 20
    assert outcome.descriptors[1] <= outcome.descriptors[0], outcome
    assert outcome.resident_kib[1] < outcome.resident_kib[0] + 4096, outcome
