"""A small project of its own for each test, the project itself, and a browser."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

import refimpl
from refimpl.speclink.document import digest
from refimpl.speclink.evidence import Evidence, TestEvidence, write
from refimpl.speclink.project import Project

ROOT = Path(__file__).parents[2]

SECTIONS = """\
[document]
title = "PV Calls Protocol version 1"

[[section]]
id = "title"
heading = "PV Calls Protocol version 1"
level = 1
module = "refimpl/__init__.py"

[[section]]
id = "connect"
heading = "Connect"
level = 4
module = "refimpl/connect.py"
draft = ["D-1"]

[[section]]
id = "release"
heading = "Release"
level = 4
module = "refimpl/release.py"
"""
CONNECT = f"""\
section = "connect"
prefix = "CONNECT"

[[requirement]]
id = "CONNECT-1"
who = ["backend"]
level = "must"
text = "It connects."

[[requirement]]
id = "CONNECT-2"
who = ["frontend", "backend"]
level = "must*"
text = "It has a `SIZE`."

[[requirement]]
id = "CONNECT-3"
who = []
level = "info"
text = "Why it connects."

[document]
sentences = [
  {{ at = 1, kind = "sentence", says = ["CONNECT-1"], sha256 = "{digest("The socket is connected.")}" }},
  {{ at = 2, kind = "item", says = ["CONNECT-2", "CONNECT-1"], sha256 = "{digest("Its size is 64.")}" }},
  {{ at = 3, kind = "sentence", says = ["CONNECT-3"], sha256 = "{digest("That is useful.")}" }},
  {{ at = 4, kind = "sentence", information = "a label", sha256 = "{digest("Fields:")}" }},
]
"""
RELEASE = f"""\
section = "release"
prefix = "RELEASE"

[[requirement]]
id = "RELEASE-1"
who = ["backend"]
level = "must"
text = "It is released."

[document]
sentences = [
  {{ at = 1, kind = "sentence", says = ["RELEASE-1"], sha256 = "{digest("The socket is released.")}" }},
]
"""
ERRATA = """\
[[erratum]]
id = "E-SIZE"
severity = "A"
requirements = ["CONNECT-2"]
problem = "Is it 64 or 65?"
chosen = "64."
evidence = "the document"
"""
SECURITY = """\
[[rule]]
id = "SEC-B-1"
who = "backend"
text = "Never trust."
shown_by = "fuzz"
"""
DRAFTS = """\
[[difference]]
id = "D-1"
section = "connect"
draft = "Nothing."
published = "Something."
effect = "none"

[[prototype]]
id = "P-1"
behaviour = "It did."
consequence = "none"

[[edition]]
name = "draft 1"
date = "2016"
device = "x"
backend_nodes = "none that is known"
layout = "A"
"""
CODE = """\
SIZE = 64  # CONNECT-2 (E-SIZE)


def size():
    return SIZE


def connect(x):
    if x:
        return 1  # CONNECT-1, SEC-B-1
    return 2
"""
DOCUMENT = """\
<html><body>
<h1><span class="header-section-number">1</span> PV Calls Protocol version 1</h1>
<h4>Connect</h4>
<p>The socket is connected.</p><ul><li>Its size is 64.</li></ul><p>That is useful. Fields:</p>
<h4>Release</h4>
<p>The socket is released.</p>
</body></html>
"""


class SmallProject:
    """A project of two sections in a folder of its own, to be changed at will."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for path, text in {
            "spec/sections.toml": SECTIONS,
            "spec/requirements/connect.toml": CONNECT,
            "spec/requirements/release.toml": RELEASE,
            "spec/errata.toml": ERRATA,
            "spec/security.toml": SECURITY,
            "spec/drafts.toml": DRAFTS,
            "refimpl/__init__.py": "",
            "refimpl/connect.py": CODE,
            "refimpl/release.py": "",
            "document.html": DOCUMENT,
        }.items():
            self.write(path, text)

    def write(self, path: str, text: str) -> Path:
        """Write a file below the project."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace text that stands in a file once."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
        self.write(path, text.replace(old, new))

    def loaded(self, *evidence: Path) -> Project:
        """Return it as speclink sees it."""
        return Project(self.root, evidence)

    def make_importable(self) -> None:
        """Let processes started in the folder import this project's ``refimpl``, with the real speclink in it."""
        (self.root / "refimpl" / "speclink").symlink_to(Path(refimpl.__file__).parent / "speclink")
        self.write(
            "pyproject.toml",
            "[tool.pytest.ini_options]\n"
            'testpaths = ["tests"]\n'
            'addopts = "-p refimpl.speclink.pytest_plugin --strict-markers --import-mode=importlib"\n'
            'markers = ["spec(*ids): x", "erratum(*ids): y", "security(*ids): z"]\n',
        )


@pytest.fixture
def small(tmp_path: Path) -> SmallProject:
    return SmallProject(tmp_path)


@pytest.fixture(scope="module")
def real() -> Project:
    """This project as it is, with no recorded run."""
    return Project(ROOT)


@pytest.fixture
def browser():
    """A headless Chromium."""
    if shutil.which("chromium") is None:
        pytest.skip("needs Debian's package chromium")
    spec = importlib.util.spec_from_file_location("speclink_chromium", Path(__file__).with_name("chromium.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    with module.Chromium() as running:
        yield running


class Run:
    """Makes evidence of a run of the small project."""

    def __init__(self, small: SmallProject) -> None:
        self._small = small

    def __call__(
        self, *tests: TestEvidence, platform: str = "shm", is_whole: bool = True, file: str = "shm.json"
    ) -> Path:
        """Write a run; the sources are those of the project as it is now."""
        paths = {key.rpartition(":")[0] for test in tests for key in test.ran} | {"refimpl/connect.py"}
        project = self._small.loaded()
        digests = {
            c.key: c.statement.digest(source.text.splitlines()) for source in project.sources for c in source.citations
        }
        sources = {path: hashlib.sha256((self._small.root / path).read_bytes()).hexdigest() for path in paths}
        run = Evidence(platform, "c0ffee", is_whole, sources, {}, digests, list(tests))
        write(self._small.root / file, run)
        return self._small.root / file

    def test(self, name: str, ran: list[str], platform: str = "shm", **ids: tuple[str, ...]) -> TestEvidence:
        """Make one test's evidence."""
        named = {kind: ids.get(kind, ()) for kind in ("spec", "erratum", "security")}
        return TestEvidence(f"tests/test_x.py::{name}", platform, **named, ran=tuple(ran))


@pytest.fixture
def run_of(small: SmallProject) -> Run:
    return Run(small)


TESTS = """\
import pytest

@pytest.mark.spec("CONNECT-1")
@pytest.mark.security("SEC-B-1")
def test_one(): ...

@pytest.mark.spec("CONNECT-2")
@pytest.mark.erratum("E-SIZE")
def test_two(): ...
"""


@pytest.fixture
def tested(small: SmallProject, run_of: Run) -> tuple[SmallProject, Path]:
    """Make the small project with tests, and a whole run in which all of them reached what they name."""
    small.write("tests/test_x.py", TESTS)
    one = run_of.test("test_one", ["refimpl/connect.py:10"], spec=("CONNECT-1",), security=("SEC-B-1",))
    two = run_of.test("test_two[a]", ["refimpl/connect.py:1"], spec=("CONNECT-2",), erratum=("E-SIZE",))
    return small, run_of(one, two)
