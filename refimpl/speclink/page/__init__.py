"""The page: the document's sections with every requirement, its code, its tests and its errata, in one HTML file.

:func:`build` puts it together: ``document.html`` parts made here, the code and the tests as data, style and script from
the files beside. Nothing is loaded from anywhere else, so that the file opens from disk.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from refimpl.speclink import report
from refimpl.speclink.evidence import commit
from refimpl.speclink.page import articles, ties
from refimpl.speclink.project import Project
from refimpl.speclink.states import State

_HERE = Path(__file__).parent


def build(project: Project) -> str:
    """Return the page."""
    totals = report.totals(project)
    return _PAGE.format(
        title=escape(project.catalogue.document.get("title", "PV Calls")),
        style=_asset("page.css"),
        script=_asset("page.js"),
        totals=_totals(totals),
        tree=articles.tree(project),
        document=articles.document(project),
        data=_json(ties.data(project)),
        about=_about(project, totals),
    )


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _json(content: dict[str, Any]) -> str:
    # "</script>" in a string would end the element that holds it.
    return json.dumps(content, separators=(",", ":")).replace("</", "<\\/")


def _totals(totals: dict[str, Any]) -> str:
    """Return the bar of all states; each part is a switch that shows those requirements alone."""
    parts = []
    for state in reversed(State):
        count = totals["states"][str(state)]
        if count:
            parts.append(
                f'<button type="button" class="share {state}" data-state="{state}" aria-pressed="false"'
                f' style="flex-grow:{count}"><b>{count}</b> {state}</button>'
            )
    return "".join(parts)


def _about(project: Project, totals: dict[str, Any]) -> str:
    errata, security = totals["errata"], totals["security"]
    platforms = ", ".join(f"{n} on {platform}" for platform, n in totals["platforms"].items())
    at = commit(project.root)
    return escape(
        f"{totals['requirements']} requirements, {totals['must']} of them must; proved: {platforms}. "
        f"{errata['pinned']} of {errata['total']} errata pinned by tests, {security['total']} security rules. "
        + (f"Commit {at}. " if at else "")
        + (f"States as in {totals['source']}." if totals["source"] != "run" else "States as of a recorded run.")
    )


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: requirements, code and tests</title>
<style>
{style}
</style>
</head>
<body>
<a class="skip" href="#document">Skip to the document</a>
<header class="top">
<h1>{title}</h1>
<form class="search" role="search">
<input type="search" id="search" placeholder="Search: an id, words, a file" aria-label="Search" autocomplete="off">
<span id="found" role="status"></span>
</form>
<div class="totals" role="group" aria-label="Show requirements by state">{totals}</div>
</header>
<nav class="tree" aria-label="Sections"><details id="sections" open><summary>Sections</summary>{tree}</details></nav>
<main id="document" tabindex="-1">
{document}
<footer><p>{about}</p>
<p>Keys: <kbd>j</kbd> <kbd>k</kbd> next and previous requirement, <kbd>Enter</kbd> its code, <kbd>/</kbd> search,
<kbd>Esc</kbd> back. Every id and every line of code has a link of its own, to share.</p></footer>
</main>
<section class="code" id="code" aria-label="Code and tests" tabindex="-1">
<p class="hint">Choose a requirement: the code that keeps it and the tests that prove it appear here.</p>
</section>
<script type="application/json" id="data">{data}</script>
<script>
{script}
</script>
</body>
</html>
"""
