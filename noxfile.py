"""Task names for what CI and a developer run: ``nox -l`` lists them, ``nox -s tests`` runs one."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "types", "imports", "spec"]
nox.options.reuse_venv = "yes"

EVIDENCE = "build/evidence/shm.json"


def _install(session: nox.Session, extra: str) -> None:
    session.install("-e", f".[{extra}]")


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test, and record what it proves."""
    _install(session, "test")
    session.run("pytest", *(session.posargs or ["--evidence", EVIDENCE]))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    _install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly."""
    _install(session, "dev")
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """The direction of imports."""
    _install(session, "dev")
    session.run("lint-imports")


@nox.session
def spec(session: nox.Session) -> None:
    """Catalogue, code, tests and document fit together. After ``tests``: its recorded run decides."""
    _install(session, "test")
    session.run("refimpl", "spec", "check", *session.posargs)


@nox.session
def mutate(session: nox.Session) -> None:
    """Take each citing statement away: a test that names it must fail. ``-- --changed`` for what changed."""
    _install(session, "test")
    session.run("pytest", "-q", "--evidence", EVIDENCE)
    session.run("refimpl", "spec", "mutate", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Long runs of the fuzzers; ``-- --steps N --lives N`` for the whole ends, atheris has a minute a decoder."""
    _install(session, "fuzz")
    session.run("python", "-m", "refimpl.testing.fuzzing", *session.posargs)
    session.run("pytest", "-q", "tests/fuzz", "-k", "sequence_of_steps", env={"REFIMPL_FUZZ_EXAMPLES": "500"})
    for corpus in sorted(Path("tests/fuzz/corpus").iterdir()):
        found = Path("build/fuzz") / corpus.name
        found.mkdir(parents=True, exist_ok=True)
        target = ("python", "tests/fuzz/decoders.py", corpus.name)
        session.run(*target, "-max_total_time=60", f"-artifact_prefix={found}/", str(found), str(corpus))


@nox.session
def soak(session: nox.Session) -> None:
    """100 000 connections and 100 GiB through 10 guests: equal hashes, flat memory; CI runs ``-- --scale 0.1``."""
    _install(session, "test")
    session.run("python", "-m", "refimpl.testing.soak", *session.posargs)


@nox.session(venv_backend="none")
def xen(session: nox.Session) -> None:
    """Run the tests in real Xen, booted under QEMU from Debian's packages; ``-- --list`` says which there are."""
    session.run("tests/xen/run", *session.posargs, external=True)
