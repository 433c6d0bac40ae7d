"""A short run of the fuzzers of whole ends; the long one is ``nox -s fuzz``."""

from __future__ import annotations

import random

import pytest

from refimpl.testing.fuzzing import fuzz_backend, fuzz_frontend


@pytest.mark.security("SEC-B-4", "SEC-B-11", "SEC-B-13", "SEC-B-14", "SEC-B-19")
def test_a_backend_under_attack_serves_an_honest_guest_and_leaks_nothing(record_property) -> None:
    seed = random.randrange(2**32)
    figures = fuzz_backend(1500, seed)
    record_property("figures", str(figures))
    assert (figures.crashes, figures.hangs) == (0, 0), f"seed {seed}: {figures}"
    assert figures.descriptors[1] <= figures.descriptors[0] + 10, f"seed {seed}: {figures}"
    assert figures.mappings[1] <= figures.mappings[0] + 20, f"seed {seed}: {figures}"
    assert figures.held[0] == figures.held[1], f"seed {seed}: {figures}"


@pytest.mark.security("SEC-F-1", "SEC-F-3", "SEC-F-6", "SEC-F-10", "SEC-F-14")
def test_a_frontend_under_attack_ends_its_calls_with_errors_that_callers_know(record_property) -> None:
    seed = random.randrange(2**32)
    figures = fuzz_frontend(4, seed)
    record_property("figures", str(figures))
    assert (figures.crashes, figures.hangs) == (0, 0), f"seed {seed}: {figures}"
    assert figures.descriptors[1] <= figures.descriptors[0] + 10, f"seed {seed}: {figures}"
