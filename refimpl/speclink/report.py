"""Totals by state, section and platform."""

from __future__ import annotations

from collections import Counter
from typing import Any

from refimpl.speclink import coverage_file
from refimpl.speclink.project import Project
from refimpl.speclink.records import PLATFORMS
from refimpl.speclink.states import State

#: States that say a platform showed the requirement.
_SHOWN = (State.PROVED, State.DISPUTED, State.EXECUTED)


def totals(project: Project) -> dict[str, Any]:
    """Return the report as JSON has it.

    Where no whole run is at hand the states are those of ``spec/coverage.txt``; ``source`` says which.
    """
    catalogue = project.catalogue
    lines = coverage_file.current(project)
    states = {id: coverage_file.state_of(project, id) for id in (*catalogue.requirements, *catalogue.rules)}
    of_requirements = Counter(states[id] for id in catalogue.requirements)
    pinned = [id for id in catalogue.errata if lines[id].state == "pinned"]
    return {
        "source": "run" if project.has_states_of_its_own else coverage_file.FILE,
        "requirements": len(catalogue.requirements),
        "must": sum(r.is_must for r in catalogue.requirements.values()),
        "states": {str(state): of_requirements[state] for state in reversed(State)},
        "platforms": {
            p: sum(
                p in coverage_file.platforms_of(project, id) for id in catalogue.requirements if states[id] in _SHOWN
            )
            for p in PLATFORMS
        },
        "errata": {
            "total": len(catalogue.errata),
            "pinned": len(pinned),
            "severity": {
                severity: {
                    "total": sum(e.severity == severity for e in catalogue.errata.values()),
                    "pinned": sum(catalogue.errata[id].severity == severity for id in pinned),
                }
                for severity in "ABC"
            },
        },
        "security": {
            "total": len(catalogue.rules),
            "states": {str(s): n for s, n in Counter(states[id] for id in catalogue.rules).items()},
        },
        "sections": [
            {
                "id": section.id,
                "heading": section.heading,
                "module": section.module,
                "requirements": len(requirements),
                "states": {str(s): n for s, n in Counter(states[r.id] for r in requirements).items()},
            }
            for section, requirements in catalogue.by_section()
        ],
    }


def as_text(report: dict[str, Any]) -> str:
    """Return the report for a person."""
    rows = [f"{report['requirements']} requirements, {report['must']} of them must"]
    rows += [f"  {count:>4}  {state}" for state, count in report["states"].items() if count]
    rows.append("proved on: " + ", ".join(f"{p} {n}" for p, n in report["platforms"].items()))
    errata = report["errata"]
    by_severity = ", ".join(f"{s} {n['pinned']} of {n['total']}" for s, n in errata["severity"].items())
    rows.append(f"errata pinned: {errata['pinned']} of {errata['total']} ({by_severity})")
    security = ", ".join(f"{n} {state}" for state, n in sorted(report["security"]["states"].items()))
    rows.append(f"security rules: {report['security']['total']} ({security})")
    rows.append("")
    width = max(len(section["heading"]) for section in report["sections"])
    for section in report["sections"]:
        if section["requirements"]:
            states = ", ".join(f"{n} {state}" for state, n in section["states"].items())
            rows.append(f"{section['heading']:<{width}}  {section['requirements']:>3}  {states}")
    if report["source"] != "run":
        rows += ["", f"States as in {report['source']}: no recorded run of all tests is at hand."]
    return "\n".join(rows)
