"""The suite's own runner, as the harness of a platform calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from refimpl.testing import CHECKS, GROUPS, Factory, Peers, __main__


class NoPlatform(Factory):
    """Gives no domains, so that every check fails, and can do nothing, so that some are skipped."""

    name = "none"
    can_spawn_domain = False
    can_exhaust = False
    stranger = 1

    @contextmanager
    def peers(self, count: int = 2) -> Iterator[Peers]:
        raise OSError("no domains here")
        yield

    def spawn(self, domid: int | None = None):
        raise OSError("no domains here")


def run(*arguments: str, optimise: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-O"] if optimise else []), "-m", "refimpl.testing", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env={**os.environ, "COLUMNS": "120"})


def test_shm_passes_outside_pytest_and_without_asserts() -> None:
    done = run("--platform", "shm", "--check", "zeroed", "--events", "2000", "--rounds", "20", optimise=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "4 passed, 0 failed, 0 skipped", done.stdout + done.stderr
    assert lines[-3].startswith("ok    stress.event-channels")
    assert done.returncode == 0


def test_importing_needs_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import refimpl.testing.__main__, refimpl.testing.pair"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_failures_and_skips_are_told_and_counted(monkeypatch, capsys) -> None:
    monkeypatch.setitem(__main__.FACTORIES, "xen", lambda in_processes: NoPlatform())
    assert __main__.main(["--platform", "xen", "--group", "death"]) == 1
    shown = capsys.readouterr()
    names = [check.name for check in CHECKS if check.group == "death"]
    skipped = [check.name for check in CHECKS if "can_spawn_domain" in check.needs]
    failed = len(names) - len(skipped)
    assert shown.out.splitlines()[-1] == f"0 passed, {failed} failed, {len(skipped)} skipped"
    assert f"skip  {skipped[0]}: none: no can spawn domain" in shown.out
    assert shown.out.count(": OSError: no domains here") == failed
    assert "Traceback" in shown.err


def test_list_says_each_check_in_a_sentence(capsys) -> None:
    assert __main__.main(["--platform", "shm", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS)
    for line, check in zip(lines, CHECKS, strict=True):
        assert line == f"{check.name}: {check.sentence}"
        assert check.sentence.endswith(".")
        assert "\n" not in check.sentence


def test_names_are_unique_and_grouped_in_order() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert tuple(dict.fromkeys(check.group for check in CHECKS)) == GROUPS


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_fails_as_a_whole_where_one_check_does(group) -> None:
    from refimpl import testing

    with pytest.raises(AssertionError, match=r"checks failed:\n"):
        getattr(testing, f"check_{group}")(NoPlatform())
