"""The harness's table of scenarios."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).parent
scenarios = SimpleNamespace(**runpy.run_path(str(HERE / "harness/scenarios.py"), run_name="scenarios"))


def test_every_file_of_tests_is_a_scenario_and_none_is_twice():
    files = [path.stem.removeprefix("test_") for path in HERE.glob("dom0/test_*.py")]
    assert scenarios.names() == sorted(files)


def test_named_scenarios_keep_the_boot_they_share_and_leave_the_others_out():
    boots = scenarios.chosen(["restore", "matrix", "lifecycle"])
    assert [boot.scenarios for boot in boots] == [("matrix",), ("lifecycle", "restore")]
    assert scenarios.chosen([]) == list(scenarios.BOOTS)
