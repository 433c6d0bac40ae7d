"""``refimpl spec``: from the document to the code and its tests, and back."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from refimpl.speclink.document import Heading
    from refimpl.speclink.project import Project

_CODE_LINE = re.compile(r"(?P<path>[^\s:]+\.py):(?P<line>[0-9]+)")
_FINDINGS = 1
_EXISTING = click.Path(path_type=Path, exists=True)


@click.group()
def spec() -> None:
    """Go from the document to the code and its tests, and back.

    Exit status: 0 nothing to say, 1 findings, 2 misuse.
    """


def _project_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which project and which recorded runs, and hand the command its project."""

    @click.option("--project", "root", type=_EXISTING, help="The project (default: here or above).")
    @click.option(
        "--evidence",
        "evidence_files",
        multiple=True,
        type=_EXISTING,
        help="A recorded run (default: those in build/evidence that are up to date). May be given several times.",
    )
    @functools.wraps(command)
    def with_project(root: Path | None, evidence_files: tuple[Path, ...], **options: Any) -> None:
        from refimpl.speclink.project import NoProject, Project, find

        try:
            project = Project(find((root or Path.cwd()).absolute()), evidence_files)
        except NoProject as error:
            raise click.UsageError(str(error)) from error
        command(project, **options)

    return with_project


def _sound_project_options(command: Callable[..., None]) -> Callable[..., None]:
    """Likewise, of a project whose catalogue can be read, and with it the runs that were asked for."""

    @functools.wraps(command)
    def with_sound_project(project: Project, **options: Any) -> None:
        if not project.catalogue.findings and project.has_evidence_of_its_own:
            _ = project.evidence
        _print_findings(project)
        command(project, **options)

    return _project_options(with_sound_project)


_document_option = click.option(
    "--document",
    "document_file",
    type=_EXISTING,
    help="A copy of the document (default: Debian's xen-doc, if it is installed).",
)


@spec.command()
@click.option("--strict", is_flag=True, help="Refuse what is not proved yet, too: what CI demands.")
@_document_option
@_project_options
def check(project: Project, strict: bool, document_file: Path | None) -> None:
    """Check that catalogue, code, tests and document fit together."""
    from refimpl.speclink.check import check as find_all

    findings = find_all(project, strict=strict, document_file=document_file)
    for finding in findings:
        click.echo(finding)
    if findings:
        click.echo(f"{len(findings)} finding{'s' if len(findings) > 1 else ''}", err=True)
        raise click.exceptions.Exit(_FINDINGS)


@spec.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_sound_project_options
def report(project: Project, as_json: bool) -> None:
    """Count requirements by state, section and platform."""
    from refimpl.speclink import report as reporting

    totals = reporting.totals(project)
    click.echo(json.dumps(totals, indent=2) if as_json else reporting.as_text(totals))


@spec.command()
@click.argument("id")
@_sound_project_options
def show(project: Project, id: str) -> None:
    """Show all about one ID: restatement, place, errata, code, tests, evidence."""
    from refimpl.speclink.show import show as describe

    text = describe(project, id.upper())
    if text is None:
        _refuse_unknown(project, id)
    click.echo(text)


def _refuse_unknown(project: Project, id: str) -> NoReturn:
    import difflib

    known = [*project.catalogue.requirements, *project.catalogue.errata, *project.catalogue.rules]
    near = difflib.get_close_matches(id.upper(), known, n=3)
    hint = f"; near it: {', '.join(near)}" if near else ""
    raise click.UsageError(f"there is no {id}{hint}")


@spec.command()
@click.argument("place", nargs=-1, required=True, metavar="FILE:LINE | TEXT")
@click.option("--section", default="", help="A heading: what stands there comes first.")
@click.option("--most", default=10, show_default=True, help="At most so many answers to TEXT.")
@_document_option
@_sound_project_options
def where(project: Project, place: tuple[str, ...], section: str, most: int, document_file: Path | None) -> None:
    """Say what a line of code is for, or where TEXT is said.

    TEXT is matched against the restatements, whole sentences of the document by their pins, and parts of them against
    a copy of the document where one is at hand.
    """
    words = " ".join(place)
    code_line = _CODE_LINE.fullmatch(words)
    if code_line:
        _where_line(project, code_line["path"], int(code_line["line"]))
    else:
        _where_text(project, words, section, most, document_file)


def _where_line(project: Project, path: str, line: int) -> None:
    from refimpl.speclink.where import of_line

    found = of_line(project, _relative(project, path), line)
    if found is None:
        raise click.UsageError(f"there is no {path}:{line}")
    for title, citations in (("this statement keeps", found.here), ("around it", found.around)):
        if citations:
            click.echo(f"{title} ({found.within or 'the module'}):")
        for id in dict.fromkeys(c.id for c in citations):
            click.echo(f"  {id:<13} {_text_of(project, id)}")
    if not found.here and not found.around:
        click.echo("keeps no requirement by itself")
        raise click.exceptions.Exit(_FINDINGS)


def _relative(project: Project, path: str) -> str:
    """Return the path as the project has it, whether given from here or from the project's folder."""
    here = Path(path).absolute()
    return here.relative_to(project.root).as_posix() if here.is_relative_to(project.root) else path


def _text_of(project: Project, id: str) -> str:
    catalogue = project.catalogue
    if id in catalogue.requirements:
        return catalogue.requirements[id].text
    if id in catalogue.rules:
        return catalogue.rules[id].text
    return catalogue.errata[id].chosen if id in catalogue.errata else ""


def _where_text(project: Project, words: str, section: str, most: int, document_file: Path | None) -> None:
    from refimpl.speclink.where import of_text

    catalogue = project.catalogue
    if section and not any(section.lower() in (s.id, s.heading.lower()) for s in catalogue.sections.values()):
        raise click.UsageError(f"there is no heading {section!r}")
    hits = of_text(catalogue, words, _copy(document_file), section, most)
    for hit in hits:
        sure = "=" if hit.is_exact else "~"
        heading = catalogue.sections[hit.section].heading
        sentence = f", sentence {hit.at}" if hit.at else ""
        text = catalogue.requirements[hit.id].text if hit.id else f"information: {hit.information}"
        click.echo(f"{sure} {hit.id or '-':<13} {heading}{sentence}\n{'':16}{text}")
    if not hits:
        click.echo("no requirement has any of these words")
        raise click.exceptions.Exit(_FINDINGS)


def _copy(file: Path | None) -> list[Heading]:
    from refimpl.speclink import document

    chosen = file or document.find_copy()
    if chosen is None:
        return []
    try:
        return document.read(chosen)
    except (OSError, document.NotTheDocument) as error:
        raise click.UsageError(str(error)) from error


@spec.command()
@click.argument("path", type=_EXISTING, required=False)
@_sound_project_options
def source(project: Project, path: Path | None) -> None:
    """Check the pins against the copy of the document at PATH (default: Debian's xen-doc)."""
    from refimpl.speclink import document, pins

    chosen = path or document.find_copy()
    if chosen is None:
        raise click.UsageError(f"no copy of the document: install {document.DEBIAN_PACKAGE}, or give its path")
    headings = _copy(chosen)
    changes = pins.compare(project.catalogue, headings)
    for change in changes:
        click.echo(change.finding)
    total = sum(len(heading.sentences) for heading in headings)
    touched = list(dict.fromkeys(id for change in changes for id in change.ids))
    if changes:
        kinds = ", ".join(f"{sum(c.kind == k for c in changes)} {k}" for k in dict.fromkeys(c.kind for c in changes))
        click.echo(f"{chosen}: {kinds}; requirements to look at: {', '.join(touched) or 'none'}", err=True)
        raise click.exceptions.Exit(_FINDINGS)
    click.echo(f"{chosen}: all {total} sentences under {len(headings)} headings stand where they are pinned")


@spec.command()
@click.option("--write", is_flag=True, help="Write spec/coverage.txt.")
@_sound_project_options
def coverage(project: Project, write: bool) -> None:
    """Show, or write, the state of every requirement, one line each."""
    from refimpl.speclink import coverage_file

    text = coverage_file.render(project)
    _print_findings(project)
    if not write:
        click.echo(text, nl=False)
        return
    if not project.has_whole_run:
        raise click.UsageError("no up-to-date run of all tests is at hand: pytest --evidence build/evidence/shm.json")
    changed = coverage_file.write(project)
    click.echo(f"{coverage_file.FILE} {'written' if changed else 'is as it was'}")


def _print_findings(project: Project) -> None:
    """Stop with what was found wrong in the sources: their state would be half the truth."""
    for finding in sorted(set(project.findings)):
        click.echo(finding, err=True)
    if project.findings:
        raise click.exceptions.Exit(_FINDINGS)


@spec.command()
@click.argument("files", nargs=-1, required=True, type=_EXISTING)
@_sound_project_options
def keep(project: Project, files: tuple[Path, ...]) -> None:
    """Keep recorded runs (FILES) of a platform that not every machine has, in spec/evidence.

    What they show counts as long as the citing statements read the same. They replace those kept before.
    """
    from refimpl.speclink import evidence
    from refimpl.speclink.project import RECORDED_FOLDER

    runs = evidence.read_all(project.root, files, project.findings)
    _print_findings(project)
    for run in evidence.joined(runs):
        file = project.root / RECORDED_FOLDER / f"{run.platform}.json"
        evidence.write(file, run)
        click.echo(f"{RECORDED_FOLDER}/{file.name}: {len(run.tests)} tests")


@spec.command()
@click.option("--changed", is_flag=True, help="Only statements without a verdict that still holds.")
@click.option("--id", "ids", multiple=True, help="Only this requirement. May be given several times.")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="So many at a time (default: three a processor, since many only wait)."
)
@_sound_project_options
def mutate(project: Project, changed: bool, ids: tuple[str, ...], jobs: int | None) -> None:
    """Remove or negate each citing statement, and see whether a test that names the requirement fails."""
    from refimpl.speclink import mutants, mutation

    for id in ids:
        if id not in project.catalogue:
            _refuse_unknown(project, id)
    citations = mutation.candidates(project, ids, only_new=changed)
    _print_findings(project)

    def tell(outcome: mutation.Outcome) -> None:
        for line in mutation.lines(outcome):
            click.echo(line)

    outcomes = mutation.run(project, citations, tell, jobs)
    survived = sum(outcome.verdict == mutants.SURVIVED for outcome in outcomes)
    click.echo(f"{len(outcomes)} tried, {survived} survived", err=True)
    if survived:
        raise click.exceptions.Exit(_FINDINGS)


@spec.command()
@click.option("--write", is_flag=True, help="Write spec/vectors/*.json.")
@_sound_project_options
def vectors(project: Project, write: bool) -> None:
    """Check, or write, the golden bytes for other implementations."""
    from refimpl.speclink import vectors as making

    if write:
        changed = making.write(project.root)
        click.echo("\n".join(changed) or "all as they were")
        return
    findings = making.check(project.root)
    for finding in findings:
        click.echo(finding)
    if findings:
        raise click.exceptions.Exit(_FINDINGS)


@spec.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@_sound_project_options
def html(project: Project, out: Path) -> None:
    """Write the page: the document's sections, their code and their tests, one file that opens from disk."""
    from refimpl.speclink.evidence import write_whole
    from refimpl.speclink.page import build

    page = build(project)
    _print_findings(project)
    try:
        write_whole(out, page)
    except OSError as error:
        raise click.UsageError(f"{out}: {error.strerror}") from error
    click.echo(f"{out}: {len(page.encode()) / 1e6:.1f} MB")
