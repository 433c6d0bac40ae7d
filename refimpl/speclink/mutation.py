"""Try whether the tests notice: take each citing statement away in turn, and run the tests that name the requirement.

Nothing is written into the sources: the mutated module is prepared like a recorded one, in a folder, and imported from
there.
"""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from refimpl.speclink import mutants, probe
from refimpl.speclink.citations import Citation
from refimpl.speclink.instrument import module_name
from refimpl.speclink.loader import code_file
from refimpl.speclink.mutate_statement import NotFound, mutated
from refimpl.speclink.project import Project

#: A mutant may make a test wait for ever: that is noticed too.
TIMEOUT = 120.0
_TEST_TIMEOUT = 20
#: Many mutants make a test wait for what never comes: processors are idle meanwhile.
_JOBS_PER_PROCESSOR = 3
_PASSED, _NO_TESTS = 0, 5
#: Where mutants can be tried: a test of another platform would fail here with nothing mutated.
_PLATFORM = "shm"


class Outcome(NamedTuple):
    """What came of one mutant. ``tests`` ran; ``what`` was done to the statement."""

    citation: Citation
    what: str
    tests: tuple[str, ...]
    verdict: str


def candidates(project: Project, ids: Iterable[str] = (), *, only_new: bool = False) -> list[Citation]:
    """Return the citations to try: of every proved ``must`` and security rule, or of ``ids``.

    ``only_new`` leaves out those with a verdict that still holds.
    """
    wanted = set(ids)
    known = {v[1:] for v in mutants.read(project.root, project.findings)} if only_new else set()
    digests = mutants.Digests(project.root, project.tests)
    found = []
    for citation in project.citations:
        requirement = project.catalogue.requirements.get(citation.id)
        is_ours = citation.id in project.catalogue.rules or (requirement is not None and requirement.is_must)
        is_wanted = citation.id in wanted if wanted else is_ours
        if is_wanted and _proving(project, citation) and digests.of(citation) not in known:
            found.append(citation)
    return found


def _proving(project: Project, citation: Citation) -> list[str]:
    """Return the tests, with parameters, that name the id and reached the statement: its package's own first."""
    own = citation.path.replace("refimpl/", "tests/", 1).rpartition("/")[0] + "/"
    return sorted(
        {
            test.test
            for run in project.evidence
            for test in run.tests
            if test.platform == _PLATFORM and citation.id in (*test.spec, *test.security) and citation.key in test.ran
        },
        key=lambda test: (not test.startswith(own), test),
    )


def run(
    project: Project, citations: list[Citation], tell: Callable[[Outcome], None], jobs: int | None = None
) -> list[Outcome]:
    """Try each citation, ``jobs`` at a time; ``tell`` hears of each as it is done.

    Each verdict is in ``spec/mutations.txt`` before ``tell`` hears of it: a run that is broken off has lost nothing.
    """
    ledger = mutants.Ledger(project.root, project.citations, project.tests)
    outcomes = []
    with ThreadPoolExecutor(jobs or _JOBS_PER_PROCESSOR * (os.cpu_count() or 1)) as pool:
        trials = [pool.submit(_try, project, citation) for citation in citations]
        try:
            for trial in as_completed(trials):
                outcome = trial.result()
                if outcome.verdict:
                    ledger.add(outcome.citation, outcome.verdict)
                outcomes.append(outcome)
                tell(outcome)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return outcomes


def _try(project: Project, citation: Citation) -> Outcome:
    tests = tuple(_proving(project, citation))
    text = (project.root / citation.path).read_text(encoding="utf-8")
    try:
        tree, what = mutated(text, citation.statement, citation.line)
    except NotFound as error:
        return Outcome(citation, str(error), tests, "")
    code = compile(tree, str(project.root / citation.path), "exec")
    with tempfile.TemporaryDirectory(prefix="refimpl-mutant-") as folder:
        Path(code_file(folder, module_name(citation.path))).write_bytes(marshal.dumps(code))
        return Outcome(citation, what, tests, _verdict(project, tests, folder))


def _verdict(project: Project, tests: tuple[str, ...], folder: str) -> str:
    paths = [str(Path(__file__).with_name("child")), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, probe.FOLDER_VARIABLE: folder, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop(probe.TEST_VARIABLE, None)
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    command += [f"--timeout={_TEST_TIMEOUT}", *tests]
    with subprocess.Popen(
        command,
        cwd=project.root,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    ) as process:
        try:
            status = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            status = -1
        finally:
            _end_group(process.pid)
    if status == _NO_TESTS:
        return ""
    return mutants.SURVIVED if status == _PASSED else mutants.KILLED


def _end_group(group: int) -> None:
    """End what a mutant left running."""
    try:
        os.killpg(group, 9)
    except ProcessLookupError:
        pass


def lines(outcome: Outcome) -> Iterator[str]:
    """Describe an outcome for a person."""
    citation = outcome.citation
    yield f"{outcome.verdict or 'not tried':<9} {citation.id:<13} {citation.path}:{citation.line}  {outcome.what}"
    if outcome.verdict == mutants.SURVIVED:
        yield from (f"          passes still: {test}" for test in outcome.tests[:5])
