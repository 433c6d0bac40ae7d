"""``refimpl doctor``: what this machine can run, what is missing, what is left over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from refimpl.cli.options import XEN_STATUS, json_option, platform_option, run_option

if TYPE_CHECKING:
    from refimpl.diagnosis import Finding

_NAMES_OF_PACKAGES = {"posix_ipc": "posix_ipc", "numpy": "numpy", "pyxs": "pyxs==0.4.1"}


@click.command()
@run_option
@platform_option
@click.option("--fix", is_flag=True, help="Remove what dead runs of yours left; nothing that lives or is another's.")
@json_option
def doctor(run_directory: str, platform_name: str, fix: bool, as_json: bool) -> int:
    """Try what this machine can run, and say what is missing and the command that mends it.

    Also what dead runs left: names in /dev/shm whose run no process holds, their run directories, a status socket where
    nobody listens. A run that lives, even of a stopped process, is never touched; nor is what is another user's.

    Exit status 0: all is fine; 1: something is not.
    """
    removed = list(_mend(platform_name, run_directory)) if fix else []
    findings = list(_look(platform_name, run_directory))
    for what in removed:
        print(json.dumps({"removed": what}) if as_json else f"removed     {what}")
    for finding in findings:
        print(json.dumps(finding._asdict()) if as_json else _line(finding))
    bad = sum(not finding.is_fine for finding in findings)
    if not as_json:
        print("all is fine" if not bad else f"{bad} of {len(findings)} not fine")
    return int(bad > 0)


def _look(platform_name: str, run_directory: str) -> Iterator[Finding]:
    from refimpl.diagnosis import Finding

    if platform_name != "xen":
        try:
            from refimpl.shm.diagnosis import diagnose as diagnose_shm
        except ImportError as error:
            name = error.name or str(error)
            remedy = f"python -m pip install '{_NAMES_OF_PACKAGES.get(name, name)}'"
            yield Finding("shm", "packages", False, f"the Python package {name} is not installed", remedy)
        else:
            yield from diagnose_shm(run_directory)
    if platform_name != "shm":
        from refimpl.xen.diagnosis import diagnose as diagnose_xen

        yield from diagnose_xen(is_wanted=platform_name == "xen")
        if _is_status_left_over():
            yield Finding("xen", "left over", False, f"{XEN_STATUS}: no backend listens", "refimpl doctor --fix")


def _mend(platform_name: str, run_directory: str) -> Iterator[str]:
    if platform_name != "xen":
        with suppress(ImportError):
            from refimpl.shm.diagnosis import mend

            yield from mend(run_directory)
    if platform_name != "shm" and _is_status_left_over():
        XEN_STATUS.unlink(missing_ok=True)
        yield str(XEN_STATUS)


def _is_status_left_over() -> bool:
    from refimpl.backend.status import is_left_over

    return is_left_over(str(XEN_STATUS))


def _line(finding: Finding) -> str:
    verdict = "ok" if finding.is_fine else "NOT FINE"
    line = f"{verdict:<9} {finding.platform} {finding.subject:<14} {finding.says}"
    return f"{line}\n{'':14} mend it:       {finding.remedy}" if finding.remedy else line
