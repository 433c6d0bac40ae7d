"""Record a test run: prepare the code, collect what each marked test reached, write the evidence.

Loaded by the pytest plugin only when ``--evidence`` asks for it.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from refimpl.speclink import evidence, loader, probe
from refimpl.speclink.markers import MARKERS
from refimpl.speclink.preparation import Preparation, sha256

_CHILD_PATH = str(Path(__file__).with_name("child"))


class Recording:
    """One recorded run, in the process that starts it."""

    def __init__(self, project: Path, file: Path, platform: str) -> None:
        self.project = project
        self.file = file
        self.platform = platform
        self.results: list[dict[str, Any]] = []
        self.folder = Path(tempfile.mkdtemp(prefix="refimpl-evidence-"))
        self._environment = {name: os.environ.get(name) for name in ("PYTHONPATH", probe.FOLDER_VARIABLE)}
        self._preparation = Preparation.given_or_of(project)
        for name, code in self._preparation.code.items():
            (self.folder / name).write_bytes(code)

    def start(self) -> None:
        """From now on this process and those it starts import prepared code."""
        atexit.register(self.stop)  # a run that fails before it begins is never told that it ended
        os.environ[probe.FOLDER_VARIABLE] = str(self.folder)
        paths = [_CHILD_PATH, *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        join(str(self.folder))

    def finish(self, *, is_whole: bool) -> int:
        """Write the evidence and clean up; return how many tests are in it. ``is_whole``: no test was left out."""
        tests = [self._of_test(result) for result in sorted(self.results, key=lambda r: str(r["test"]))]
        evidence.write(
            self.file,
            evidence.Evidence(
                platform=self.platform,
                commit=evidence.commit(self.project),
                is_whole=is_whole,
                sources=self._preparation.sources,
                test_sources={p: sha256(self.project / p) for p in sorted({t.path for t in tests})},
                statements={key: self._preparation.digests[key] for test in tests for key in test.ran},
                tests=tests,
            ),
        )
        self.stop()
        return len(tests)

    def stop(self) -> None:
        """Undo :meth:`start` and remove the folder; a second call does nothing."""
        if not self.folder.exists():
            return
        atexit.unregister(self.stop)
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, loader.PreparedFinder)]
        shutil.rmtree(self.folder, ignore_errors=True)

    def _of_test(self, result: dict[str, Any]) -> evidence.TestEvidence:
        """Turn what a worker sent into evidence: the citing statements that were reached, definitions by their use."""
        reached = set(result["reached"])
        path, _, function = str(result["test"]).partition("[")[0].partition("::")
        known = self._preparation
        named = known.uses.names_in_test(path, function)
        ids = {id for kind in MARKERS for id in result[kind]}
        ran = set()
        for citation in known.citations:
            if citation.id not in ids and not ids & set(citation.errata):
                continue
            if not citation.is_definition:
                if citation.key in reached:
                    ran.add(citation.key)
            elif known.carriers[citation] & named or reached.intersection(known.users[citation]):
                ran.add(citation.key)
        return evidence.TestEvidence(
            test=str(result["test"]),
            platform=str(result["platform"] or self.platform),
            spec=tuple(result["spec"]),
            erratum=tuple(result["erratum"]),
            security=tuple(result["security"]),
            ran=tuple(sorted(ran)),
        )


def join(folder: str) -> None:
    """Import prepared code in this process, unless it does so already."""
    if not any(isinstance(finder, loader.PreparedFinder) for finder in sys.meta_path):
        loader.install(folder)


def file_name_of(test: str) -> str:
    """Return a name for the files of a test's children."""
    return hashlib.sha256(test.encode()).hexdigest()[:16]


def reached_so_far(test: str, here: Iterable[str]) -> list[str]:
    """Return what a test has reached, in this process and in its children."""
    folder = os.environ.get(probe.FOLDER_VARIABLE, "")
    return sorted({*here, *(probe.of_children(folder, test) if folder else ())})
