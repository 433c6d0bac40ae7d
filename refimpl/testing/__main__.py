"""``python -m refimpl.testing``: run the conformance suite on a platform, outside pytest."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable

from refimpl.testing import CHECKS, GROUPS, Factory, Skipped, stress_deaths, stress_event_channels, stress_grants


def _shm(in_processes: bool) -> Factory:
    from refimpl.testing.conformance.on_shm import ShmFactory

    return ShmFactory(in_processes=in_processes)


def _xen(in_processes: bool) -> Factory:
    from refimpl.testing.conformance.on_xen import XenFactory

    return XenFactory(in_processes=in_processes)


FACTORIES: dict[str, Callable[[bool], Factory]] = {"shm": _shm, "xen": _xen}


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m refimpl.testing", description=__doc__)
    parser.add_argument("--platform", choices=FACTORIES, required=True)
    parser.add_argument("--processes", action="store_true", help="peers in processes of their own, not in this one")
    parser.add_argument("--group", choices=GROUPS, action="append", help="only this group of checks (repeatable)")
    parser.add_argument(
        "--check", action="append", default=[], metavar="WORD", help="only checks with this in their name"
    )
    parser.add_argument("--events", type=int, default=0, metavar="N", help="then stress event channels with N events")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="then stress grants with N rounds")
    parser.add_argument("--deaths", type=int, default=0, metavar="N", help="then kill a busy domain N times")
    parser.add_argument("--list", action="store_true", help="say what would be checked, and check nothing")
    return parser.parse_args(arguments)


class _Score:
    def __init__(self) -> None:
        self.passed = self.failed = self.skipped = 0

    def run(self, name: str, action: Callable[[], object]) -> None:
        """Run one check and print its line; a failure's traceback goes to standard error."""
        began = time.monotonic()
        try:
            result = action()
        except Skipped as reason:
            self.skipped += 1
            print(f"skip  {name}: {reason}", flush=True)
        except Exception as error:
            self.failed += 1
            traceback.print_exc()
            print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
        else:
            self.passed += 1
            detail = "" if result is None else f"  {result}"
            print(f"ok    {name}  {time.monotonic() - began:.2f} s{detail}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the checks asked for; the exit status is 0 if none failed."""
    options = _parse(arguments)
    chosen = [c for c in CHECKS if c.group in (options.group or GROUPS) and all(w in c.name for w in options.check)]
    if options.list:
        for check in chosen:
            print(f"{check.name}: {check.sentence}")
        return 0
    score = _Score()
    with FACTORIES[options.platform](options.processes) as factory:
        for check in chosen:
            score.run(check.name, lambda check=check: check.run(factory))  # type: ignore[misc]
        if options.events:
            score.run("stress.event-channels", lambda: stress_event_channels(factory, events=options.events))
        if options.rounds:
            score.run("stress.grants", lambda: stress_grants(factory, rounds=options.rounds))
        if options.deaths:
            score.run("stress.deaths", lambda: stress_deaths(factory, rounds=options.deaths))
    print(f"{score.passed} passed, {score.failed} failed, {score.skipped} skipped")
    return 1 if score.failed else 0


if __name__ == "__main__":
    sys.exit(main())
