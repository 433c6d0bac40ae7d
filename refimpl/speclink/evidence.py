"""What recorded runs showed: which test, on which platform, reached which citing statement.

One JSON file a run; several are joined. A file is about one state of the sources and says so by their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from refimpl.speclink.citations import Source
from refimpl.speclink.findings import Finding

FORMAT = 1


@dataclass(frozen=True)
class TestEvidence:
    """A test that passed: the ids it names, and the citing statements (``path:line``) it reached."""

    test: str
    platform: str
    spec: tuple[str, ...]
    erratum: tuple[str, ...]
    security: tuple[str, ...]
    ran: tuple[str, ...]

    __test__ = False  # no test class, whatever pytest thinks of the name

    @property
    def path(self) -> str:
        """The test's file."""
        return self.test.partition("::")[0]

    @property
    def function(self) -> str:
        """The test without its parameters."""
        return self.test.partition("[")[0]


@dataclass(frozen=True)
class Evidence:
    """One recorded run. ``is_whole`` if no test was left out of it.

    ``statements`` has the digest of each citing statement that was reached, by its key, so that a kept
    run still tells something after lines have moved.
    """

    platform: str
    commit: str
    is_whole: bool
    sources: dict[str, str]
    test_sources: dict[str, str]
    statements: dict[str, str]
    tests: list[TestEvidence]


def write(file: Path, evidence: Evidence) -> None:
    """Write a run's evidence."""
    content = {"format": FORMAT, **asdict(evidence)}
    write_whole(file, json.dumps(content, indent=0, sort_keys=True) + "\n")


def write_whole(file: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def read(project: Path, file: Path, findings: list[Finding], *, check: bool = True) -> Evidence | None:
    """Read a run's evidence; None, and a finding, if it is none or (``check``) is about other sources than these."""
    shown = os.path.relpath(file, project)
    try:
        evidence = _parse(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        findings.append(Finding(shown, 0, f"cannot be read: {error.strerror}"))
        return None
    except json.JSONDecodeError as error:
        findings.append(Finding(shown, error.lineno, f"malformed JSON: {error.msg}"))
        return None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        findings.append(Finding(shown, 0, f"is no evidence of a recorded run: {error!r}"))
        return None
    if not check:
        return evidence
    changed = [
        path for path, digest in {**evidence.sources, **evidence.test_sources}.items()
        if _digest(project / path) != digest
    ]  # fmt: skip
    if changed:
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        message = f"is about commit {evidence.commit or 'unknown'}: {changed[0]}{others} changed; record again"
        findings.append(Finding(shown, 0, message))
        return None
    return evidence


def _parse(content: dict[str, Any]) -> Evidence:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, not {FORMAT}")
    tests = [
        TestEvidence(
            test=str(t["test"]),
            platform=str(t["platform"]),
            spec=tuple(t["spec"]),
            erratum=tuple(t["erratum"]),
            security=tuple(t["security"]),
            ran=tuple(t["ran"]),
        )
        for t in content["tests"]
    ]
    return Evidence(
        platform=str(content["platform"]),
        commit=str(content["commit"]),
        is_whole=bool(content["is_whole"]),
        sources=dict(content["sources"]),
        test_sources=dict(content["test_sources"]),
        statements=dict(content["statements"]),
        tests=tests,
    )


def read_all(project: Path, files: Sequence[Path], findings: list[Finding], *, check: bool = True) -> list[Evidence]:
    """Read several runs."""
    return [e for file in files if (e := read(project, file, findings, check=check)) is not None]


def joined(runs: Sequence[Evidence]) -> list[Evidence]:
    """Join runs of the same sources, one for each platform, reduced to the tests that reached something."""
    platforms: dict[str, list[TestEvidence]] = {}
    for run in runs:
        for test in run.tests:
            if test.ran or test.erratum:
                platforms.setdefault(test.platform, []).append(test)
    statements = {key: digest for run in runs for key, digest in run.statements.items()}
    return [
        Evidence(
            platform=platform,
            commit=", ".join(dict.fromkeys(run.commit for run in runs if run.commit)),
            is_whole=False,
            sources={},
            test_sources={},
            statements={key: statements[key] for key in sorted({key for test in tests for key in test.ran})},
            tests=sorted(set(tests), key=lambda test: test.test),
        )
        for platform, tests in sorted(platforms.items())
    ]


def carried_over(run: Evidence, sources: Iterable[Source]) -> Evidence:
    """Return what a kept run says of the code as it is now: citing statements that still read the same."""
    now: dict[tuple[str, str], list[str]] = {}
    for source in sources:
        lines = source.text.splitlines()
        for citation in source.citations:
            now.setdefault((source.path, citation.statement.digest(lines)), []).append(citation.key)
    moved = {key: now.get((key.rpartition(":")[0], digest), []) for key, digest in run.statements.items()}
    tests = [replace(t, ran=tuple(sorted({n for old in t.ran for n in moved.get(old, ())}))) for t in run.tests]
    return replace(run, is_whole=False, tests=tests)


def commit(project: Path) -> str:
    """Return the commit the project stands at, empty where there is no git."""
    try:
        result = subprocess.run(
            ["git", "-C", str(project), "rev-parse", "--short=12", "HEAD"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
