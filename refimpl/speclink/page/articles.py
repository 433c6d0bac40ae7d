"""The page's document: the tree of sections, and an article for each requirement, erratum and security rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape

from refimpl.speclink import coverage_file
from refimpl.speclink.catalogue import Catalogue
from refimpl.speclink.page import figures
from refimpl.speclink.project import Project
from refimpl.speclink.records import Place, Requirement, Section, SecurityRule
from refimpl.speclink.states import Standing, State

_SEVERITY = {"A": "two ends may not understand each other", "B": "behaviour left open", "C": "editorial"}


def tree(project: Project) -> str:
    """Return the list of sections, each with a bar of its states."""
    items = []
    for section, requirements in project.catalogue.by_section():
        bar = _bar(coverage_file.state_of(project, r.id) for r in requirements)
        items.append(
            f'<li class="level{section.level}"><a href="#{section.id}">{escape(section.heading)}</a>{bar}</li>'
        )
    items.append('<li class="level2"><a href="#errata">Errata</a></li>')
    items.append('<li class="level2"><a href="#security">Against hostile peers</a></li>')
    items.append('<li class="level2"><a href="#drafts">The drafts</a></li>')
    return f"<ul>{''.join(items)}</ul>"


def _bar(states: Iterable[State]) -> str:
    counted = Counter(states)
    parts = [
        f'<i class="{state}" style="flex-grow:{counted[state]}"></i>' for state in reversed(State) if counted[state]
    ]
    label = ", ".join(f"{counted[state]} {state}" for state in reversed(State) if counted[state])
    return f'<span class="bar" role="img" aria-label="{label}" title="{label}">{"".join(parts)}</span>' if parts else ""


def document(project: Project) -> str:
    """Return all sections with their requirements, then errata, security rules, and the drafts."""
    return "\n".join([*_sections(project), _errata(project), _security(project), _drafts(project.catalogue)])


def _sections(project: Project) -> Iterator[str]:
    for section, requirements in project.catalogue.by_section():
        level = section.level + 1
        yield f'<section class="part" id="{section.id}"><h{level}>{escape(section.heading)}</h{level}>'
        if requirements:
            yield f'<p class="module"><a href="#{section.module}">{section.module}</a></p>'
        yield _draft(project.catalogue, section)
        yield _sentences(project, section)
        yield figures.of_section(section.id)
        for requirement in requirements:
            yield _requirement(project, requirement)
        yield "</section>"


def _draft(catalogue: Catalogue, section: Section) -> str:
    rows = []
    for difference in (catalogue.differences[id] for id in section.draft):
        rows.append(
            f"<li><b>{difference.id}</b> {prose(difference.draft)} <em>Published:</em> {prose(difference.published)}"
            f" <em>Effect:</em> {prose(difference.effect)}</li>"
        )
    if not rows:
        return ""
    return f'<details class="draft"><summary>The draft of 2016 differs</summary><ul>{"".join(rows)}</ul></details>'


def _sentences(project: Project, section: Section) -> str:
    """Return the section's sentences as a row of numbered squares, each a link to what it says."""
    places = [p for p in project.catalogue.places if p.section == section.id]
    squares = "".join(_square(project, place) for place in places)
    return f'<ol class="sentences" aria-label="Sentences of this section">{squares}</ol>' if squares else ""


def _square(project: Project, place: Place) -> str:
    label = f"{place.kind} {place.at}"
    if not place.says:
        title = escape(f"{label}: information, {place.information}", quote=True)
        return f'<li><span class="information" title="{title}">{place.at}</span></li>'
    states = list(State)
    worst = min((coverage_file.state_of(project, id) for id in place.says), key=states.index)
    title = escape(f"{label}: {', '.join(place.says)} ({worst})", quote=True)
    return f'<li><a class="{worst}" href="#{place.says[0]}" title="{title}">{place.at}</a></li>'


def _requirement(project: Project, requirement: Requirement) -> str:
    catalogue, id = project.catalogue, requirement.id
    standing = project.standings[id]
    errata = "".join(_margin(project, e) for e in catalogue.errata_of.get(id, []))
    notes = []
    if requirement.shown_by:
        notes.append(f"Shown by: {prose(requirement.shown_by)}")
    if requirement.waits_for:
        notes.append(f"Waits for {requirement.waits_for}: {prose(requirement.reason)}")
    places = stands_at(catalogue.places_of.get(id, []))
    return _article(
        project,
        standing,
        f'<span class="level">{requirement.level}</span> <span class="who">{", ".join(requirement.who)}</span>',
        f"<p>{prose(requirement.text)}</p><p class='notes'>{' · '.join([escape(places), *notes])}</p>",
        f'<aside aria-label="Errata of {id}">{errata}</aside>' if errata else "",
    )


def stands_at(places: Iterable[Place]) -> str:
    """Return where sentences stand, runs of them shortened: ``"sentences 3, 8-14"``."""
    runs: list[list[int]] = []
    for at in (place.at for place in places):
        if runs and runs[-1][-1] + 1 == at:
            runs[-1][1:] = [at]
        else:
            runs.append([at])
    found = ", ".join("-".join(map(str, run)) for run in runs)
    return f"sentence{'s' if '-' in found or ',' in found else ''} {found}"


def _article(project: Project, standing: Standing, head: str, body: str, margin: str) -> str:
    id, state = standing.id, coverage_file.state_of(project, standing.id)
    return (
        f'<article id="{id}" class="{state}" data-state="{state}" tabindex="-1"><div class="say">'
        f'<header><a class="id" href="#{id}">{id}</a> <span class="chip {state}">{state}</span> {head}</header>'
        f"{body}{_ties(project, standing)}</div>{margin}</article>"
    )


def _ties(project: Project, standing: Standing) -> str:
    lines, tests = len(standing.citations), len(standing.tests)
    platforms = coverage_file.platforms_of(project, standing.id)
    on = f" · proved on {', '.join(platforms)}" if platforms else ""
    if not lines and not tests:
        return ""
    return (
        f'<p class="ties"><a href="#{standing.id}">{_count(lines, "line")} of code, {_count(tests, "test")}</a>{on}</p>'
    )


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"


def _margin(project: Project, id: str) -> str:
    """Return an erratum as it stands beside a requirement: closed, with the reading chosen inside."""
    erratum = project.catalogue.errata[id]
    return (
        f"<details><summary><b>{id}</b> <span class='severity'>{erratum.severity}</span></summary>"
        f"<p>{prose(erratum.problem)}</p><p><em>Here:</em> {prose(erratum.chosen)}</p>"
        f'<p><a href="#{id}">All of it</a></p></details>'
    )


def _errata(project: Project) -> str:
    rows = ['<section class="part" id="errata"><h2>Errata</h2>']
    for id, standing in project.errata.items():
        erratum = standing.erratum
        state = coverage_file.current(project)[id].state
        linux = f"<dt>Linux</dt><dd>{prose(erratum.linux)}</dd>" if erratum.linux else ""
        links = ", ".join(f'<a href="#{r}">{r}</a>' for r in erratum.requirements)
        waits = (
            f"<p class='notes'>Waits for {erratum.waits_for}: {prose(erratum.reason)}</p>" if erratum.waits_for else ""
        )
        rows.append(
            f'<article id="{id}" class="erratum" tabindex="-1"><div class="say">'
            f'<header><a class="id" href="#{id}">{id}</a> <span class="chip {state}">{state}</span>'
            f' <span class="severity" title="{_SEVERITY[erratum.severity]}">severity {erratum.severity}</span></header>'
            f"<dl><dt>Problem</dt><dd>{prose(erratum.problem)}</dd>{linux}<dt>Here</dt><dd>{prose(erratum.chosen)}</dd>"
            f"<dt>Evidence</dt><dd>{prose(erratum.evidence)}</dd><dt>Touches</dt><dd>{links}</dd></dl>{waits}"
            f'<p class="ties"><a href="#{id}">{_count(len(standing.tests), "test")}</a></p></div></article>'
        )
    return "".join([*rows, "</section>"])


def _security(project: Project) -> str:
    rows = ['<section class="part" id="security"><h2>Against hostile peers</h2>']
    rows += [_rule(project, rule) for rule in project.catalogue.rules.values()]
    return "".join([*rows, "</section>"])


def _rule(project: Project, rule: SecurityRule) -> str:
    standing = project.standings[rule.id]
    waits = f" · Waits for {rule.waits_for}: {prose(rule.reason)}" if rule.waits_for else ""
    return _article(
        project,
        standing,
        f'<span class="who">{rule.who}</span>',
        f"<p>{prose(rule.text)}</p><p class='notes'>Shown by: {prose(rule.shown_by)}{waits}</p>",
        "",
    )


def _drafts(catalogue: Catalogue) -> str:
    editions = [
        f"<tr><th>{escape(e.name)}</th><td>{e.date}</td><td>{e.device}</td><td>{prose(e.backend_nodes)}</td>"
        f"<td>{prose(e.layout)}</td></tr>"
        for e in catalogue.editions
    ]
    prototypes = [
        f"<tr><th>{p.id}</th><td>{prose(p.behaviour)}</td><td>{prose(p.consequence)}</td></tr>"
        for p in catalogue.prototypes
    ]
    heads = ("edition", "date", "device", "backend's nodes", "layouts")
    return (
        '<section class="part" id="drafts"><h2>The drafts</h2><div class="scroll"><table class="draft">'
        f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(editions)}</table>"
        "<table class='draft'><tr><th></th><th>what the prototypes of 2016 did</th><th>what follows</th></tr>"
        f"{''.join(prototypes)}</table></div></section>"
    )


_CODE = re.compile(r"`([^`]+)`")
_ID = re.compile(r"\b((?:E-[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*)|SEC-[BF]-\d+)\b")


def prose(text: str) -> str:
    """Return text as HTML: code in backticks, errata and security rules as links."""
    marked = _CODE.sub(r"<code>\1</code>", escape(text, quote=False))
    return _ID.sub(r'<a href="#\1">\1</a>', marked)
