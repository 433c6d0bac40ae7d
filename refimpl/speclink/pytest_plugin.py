"""The pytest side: unknown ids in markers fail the run; ``--evidence FILE`` records what each marked test reached.

Load it with ``-p refimpl.speclink.pytest_plugin``, so that it is there before any module of the project is imported.
Works alone and under xdist: the process that starts the run prepares the code, workers record, it joins what they sent.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from refimpl.speclink.markers import MARKERS, known_ids

if TYPE_CHECKING:
    from refimpl.speclink.catalogue import Catalogue
    from refimpl.speclink.recording import Recording

_REACHED = pytest.StashKey[list[str]]()
_HAS_FAILED = pytest.StashKey[bool]()
_RECORDING: pytest.StashKey[Recording] = pytest.StashKey()
_CATALOGUE: pytest.StashKey[Catalogue] = pytest.StashKey()
_OUTPUT = "refimpl_evidence"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--evidence`` and what belongs to it."""
    group = parser.getgroup("refimpl", "requirements")
    group.addoption("--evidence", metavar="FILE", help="record which citing statements each marked test reached")
    group.addoption(
        "--evidence-platform", metavar="NAME", default="shm", help="what the run's ends run on: shm, xen, linux"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Start recording before a conftest imports what is to be watched."""
    options = early_config.known_args_namespace
    if not options.evidence:
        return
    from refimpl.speclink.probe import FOLDER_VARIABLE
    from refimpl.speclink.recording import Recording

    if "PYTEST_XDIST_WORKER" in os.environ and FOLDER_VARIABLE in os.environ:
        return  # prepared by the process that started us

    file = Path(early_config.invocation_params.dir, options.evidence)
    recording = Recording(early_config.rootpath, file, options.evidence_platform)
    early_config.stash[_RECORDING] = recording
    recording.start()


def pytest_configure(config: pytest.Config) -> None:
    """Record if asked to, in workers as well."""
    if config.getoption("evidence"):
        config.pluginmanager.register(_Recorder(config), "refimpl-evidence")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse ids that are not in ``spec/``: the collection of that file fails."""
    report = yield
    items = [item for item in report.result if isinstance(item, pytest.Item)] if report.passed else []
    wrong = list(dict.fromkeys(message for item in items for message in _unknown_ids(item)))
    if wrong:
        report.outcome = "failed"
        report.longrepr = "\n".join(wrong)
        report.result = []
    return report


def _unknown_ids(item: pytest.Item) -> Generator[str, None, None]:
    has_markers = any(item.get_closest_marker(kind) for kind in MARKERS)
    if not has_markers or not (item.config.rootpath / "spec").is_dir():
        return
    if _catalogue(item.config).findings:
        yield from map(str, _catalogue(item.config).findings)
        return
    for kind in MARKERS:
        for marker in item.iter_markers(kind):
            known = known_ids(_catalogue(item.config), kind)
            for id in marker.args:
                if id not in known:
                    path, line, name = item.location
                    test = name.partition("[")[0]
                    yield f"{path}:{(line or 0) + 1}: {test} names {id!r}, which is no {kind} id of spec/"


def _catalogue(config: pytest.Config) -> Catalogue:
    if _CATALOGUE not in config.stash:
        from refimpl.speclink.catalogue import load

        config.stash[_CATALOGUE] = load(config.rootpath)
    return config.stash[_CATALOGUE]


class _Recorder:
    """The hooks of a recorded run."""

    def __init__(self, config: pytest.Config) -> None:
        from refimpl.speclink import probe, recording

        probe.watch_threads()
        self._probe = probe
        self._recording = recording
        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        self._current: str = ""
        self._results: list[dict[str, Any]] = []
        self._left_out = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if not any(item.get_closest_marker(kind) for kind in MARKERS):
            return (yield)
        self._current = self._recording.file_name_of(item.nodeid)
        self._probe.begin(self._current)
        try:
            return (yield)
        finally:
            self._probe.end()
            self._current = ""
            if item.stash.get(_REACHED, None) is not None and not item.stash.get(_HAS_FAILED, False):
                self._results.append(_result(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """What a shared fixture does, or starts, proves nothing for the test that happened to come first."""
        if not self._current or fixturedef.scope == "function":
            return (yield)
        self._probe.pause()
        try:
            return (yield)
        finally:
            self._probe.resume(self._current)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Take stock when the test itself ends: what its teardown reaches, no assertion has seen."""
        try:
            return (yield)
        finally:
            if self._current:
                here = self._probe.end()
                item.stash[_REACHED] = self._recording.reached_so_far(self._current, here)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if not report.passed:
            item.stash[_HAS_FAILED] = True
        return report

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._left_out += len(items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._left_out += report.failed

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {}).get(_OUTPUT, {})
        self._results += output.get("results", [])
        self._left_out += output.get("left_out", 0)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        was_cut_short = session.shouldfail or session.shouldstop
        self._left_out += bool(was_cut_short or exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED))
        if self._is_worker:
            output: dict[str, Any] = self._config.workeroutput  # type: ignore[attr-defined]
            output[_OUTPUT] = {"results": self._results, "left_out": self._left_out}

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        recording = self._config.stash.get(_RECORDING, None)
        if recording is None:
            return
        recording.results = self._results
        is_whole = not self._left_out and self._has_all_folders()
        count = recording.finish(is_whole=is_whole)
        what = "every test" if is_whole else "a part of the tests"
        terminalreporter.write_line(f"evidence of {count} marked tests ({what} ran): {recording.file}")

    def _has_all_folders(self) -> bool:
        """Whether the run was asked for everything: nothing named, or the very folders that tests are in."""
        if self._config.args_source is not pytest.Config.ArgsSource.ARGS:
            return True
        return set(self._config.args) >= set(self._config.getini("testpaths"))

    def pytest_unconfigure(self) -> None:
        self._probe.unwatch_threads()
        recording = self._config.stash.get(_RECORDING, None)
        if recording is not None:
            recording.stop()


def _result(item: pytest.Item) -> dict[str, Any]:
    result: dict[str, Any] = {
        "test": item.nodeid,
        "platform": next((str(v) for k, v in item.user_properties if k == "platform"), ""),
        "reached": item.stash[_REACHED],
    }
    for kind in MARKERS:
        ids = [id for marker in item.iter_markers(kind) for id in marker.args]
        result[kind] = list(dict.fromkeys(ids))
    return result
