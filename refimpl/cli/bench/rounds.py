"""Rounds of measurements, and what they come to: medians of the figures, and of the ratios within each round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from refimpl.cli.bench.subjects import Subject, stage
from refimpl.cli.bench.workloads import UNITS, Case, Effort


@dataclass(frozen=True, slots=True)
class Result:
    """One subject's figures for one case over all rounds. Ratios are to the direct socket's of the same round."""

    work: str
    subject: str
    direction: str | None
    message_bytes: int | None
    ring_order: int | None
    open_sockets: int | None
    median: float
    p99: float | None
    unit: str
    ratio_to_direct: float | None
    ratio_min: float | None
    ratio_max: float | None
    rounds: int
    placement: str | None = None


class _Figures:
    """What the rounds gave for one subject and case."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.p99s: list[float] = []
        self.ratios: list[float] = []


def run_rounds(
    compared: Sequence[Subject], measured: Sequence[Case], effort: Effort, rounds: int, tick: Callable[[], None]
) -> list[Result]:
    """Measure all of it ``rounds`` times; ``tick()`` is called after each measurement."""
    pairs = [(case, subject) for case in measured for subject in compared if subject.takes(case)]
    figures = {pair: _Figures() for pair in pairs}
    for number in range(rounds):
        with stage(compared) as on_stage:
            for case in measured:
                takers = [subject for subject in compared if subject.takes(case)]
                first = number % len(takers)  # Nobody is always the first.
                direct, values = 0.0, {}
                for subject in takers[first:] + takers[:first]:
                    value, p99 = on_stage.measure(subject, case, effort)
                    values[subject] = value
                    if p99 is not None:
                        figures[case, subject].p99s.append(p99)
                    if subject.name == "direct":
                        direct = value
                    tick()
                for subject, value in values.items():
                    figures[case, subject].values.append(value)
                    figures[case, subject].ratios.append(value / direct)
    return [_result(case, subject, figures[case, subject]) for case, subject in pairs]


def measurement_count(compared: Sequence[Subject], measured: Sequence[Case], rounds: int) -> int:
    """Return how many measurements :func:`run_rounds` makes."""
    return rounds * sum(subject.takes(case) for case in measured for subject in compared)


def _result(case: Case, subject: Subject, found: _Figures) -> Result:
    return Result(
        work=case.work,
        subject=subject.name,
        direction=case.direction,
        message_bytes=case.message_bytes,
        ring_order=subject.ring_order,
        open_sockets=case.open_sockets,
        median=statistics.median(found.values),
        p99=statistics.median(found.p99s) if found.p99s else None,
        unit=UNITS[case.work],
        ratio_to_direct=statistics.median(found.ratios),
        ratio_min=min(found.ratios),
        ratio_max=max(found.ratios),
        rounds=len(found.values),
        placement=case.placement,
    )
