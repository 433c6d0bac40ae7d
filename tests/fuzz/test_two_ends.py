"""A short run of the fuzzers of whole ends; the long one is ``nox -s fuzz``."""

from __future__ import annotations

import random
import sys

import pytest

from refimpl.testing import fuzzing
from refimpl.testing.fuzzing import Figures, fuzz_backend, fuzz_frontend


@pytest.mark.security("SEC-B-4", "SEC-B-11", "SEC-B-13", "SEC-B-14", "SEC-B-19")
def test_a_backend_under_attack_serves_an_honest_guest_and_leaks_nothing(record_property) -> None:
    for last_try in (False, True):
        seed = random.randrange(2**32)
        figures = fuzz_backend(3000, seed)
        record_property("figures", str(figures))
        if not figures.is_slowed or last_try:  # The machine may have been about something else.
            break
    assert figures.faults() == [], f"seed {seed}: {figures}"
    assert figures.held[0] == figures.held[1], f"seed {seed}: {figures}"


@pytest.mark.security("SEC-F-1", "SEC-F-3", "SEC-F-6", "SEC-F-10", "SEC-F-14")
def test_a_frontend_under_attack_ends_its_calls_with_errors_that_callers_know(record_property) -> None:
    seed = random.randrange(2**32)
    figures = fuzz_frontend(4, seed)
    record_property("figures", str(figures))
    assert figures.faults() == [], f"seed {seed}: {figures}"


@pytest.mark.parametrize(
    ("figures", "fault"),
    [
        (Figures(), None),
        (Figures(crashes=1), "crashes: 1"),
        (Figures(hangs=1), "hangs: 1"),
        (Figures(descriptors=(20, 80)), "descriptors: 80"),
        (Figures(mappings=(300, 400)), "mappings: 400"),
        (Figures(resident_kib=(20_000, 30_000)), "KiB of memory: 30000"),
        (Figures(held=({"maps": 1}, {"maps": 2})), "maps: 2"),
        (Figures(delay_ratio=2.1), "2.10 times as long"),
    ],
)
@pytest.mark.parametrize("attacked", ["backend", "frontend"])
def test_a_fault_is_said_and_makes_the_run_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], figures: Figures, fault: str, attacked: str
) -> None:
    for name in ("backend", "frontend"):
        monkeypatch.setattr(fuzzing, f"fuzz_{name}", lambda *_, n=name: figures if n == attacked else Figures())
    monkeypatch.setattr(sys, "argv", ["fuzzing", "--seed", "1"])
    assert fuzzing.main() == (fault is not None)
    said = capsys.readouterr().out
    assert (f"{attacked}: FAULT: " in said) is (fault is not None)
    assert fault is None or fault in said
