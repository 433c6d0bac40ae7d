"""Loading spec/: strict, with the file and line of every mistake."""

from __future__ import annotations

import pytest

from refimpl.speclink.catalogue import load

CONNECT = "spec/requirements/connect.toml"


def findings(small) -> list[str]:
    return [str(finding) for finding in load(small.root).findings]


def test_small_project_is_right(small):
    catalogue = load(small.root)
    assert catalogue.findings == []
    assert list(catalogue.requirements) == ["CONNECT-1", "CONNECT-2", "CONNECT-3", "RELEASE-1"]
    assert catalogue.errata_of == {"CONNECT-2": ["E-SIZE"]}
    assert [(p.section, p.at) for p in catalogue.places_of["CONNECT-1"]] == [("connect", 1), ("connect", 2)]
    assert "SEC-B-1" in catalogue and "E-SIZE" in catalogue and "CONNECT-9" not in catalogue


def test_this_project_is_right(real):
    assert real.catalogue.findings == []
    assert len(real.catalogue.requirements) >= 183
    assert len(real.catalogue.errata) >= 83


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        (CONNECT, 'id = "CONNECT-1"\n', 'id = "CONNECT-1\n', ":5: malformed TOML: Illegal character '\\n'"),
        (CONNECT, 'id = "CONNECT-2"', 'id = "CONNECT-1"', f":10: CONNECT-1 is there twice, first at {CONNECT}:4"),
        (CONNECT, 'id = "CONNECT-3"', 'id = "CONNECT3"', ":16: 'CONNECT3' is no id of this kind"),
        (CONNECT, 'id = "CONNECT-3"', 'id = "ACCEPT-3"', ":16: ACCEPT-3: ids of this section start with CONNECT-"),
        (
            CONNECT,
            'level = "must"\n',
            'level = "shall"\n',
            ":4: level is 'shall', allowed: must, must*, should, may, info",
        ),
        (CONNECT, 'text = "It connects."\n', "", ":4: text is missing"),
        (CONNECT, 'text = "It connects."\n', "text = 7\n", ":4: text must be a string, not 7"),
        (CONNECT, 'text = "It connects."\n', 'text = "x"\nwhy = "y"\n', ":4: unknown field 'why'"),
        (
            CONNECT,
            'who = ["backend"]',
            'who = ["guest"]',
            ":4: who holds 'guest', allowed: frontend, backend, toolstack",
        ),
        (
            CONNECT,
            'text = "It connects."\n',
            'text = "x"\nwaits_for = "xen"\n',
            ":4: waits_for and reason come together",
        ),
        (
            CONNECT,
            'information = "a label"',
            "says = []",
            ":27: sentence 4 says a requirement or is information: one of the two",
        ),
        (CONNECT, "at = 3,", "at = 5,", ":26: sentence 5 stands where 3 belongs"),
        (CONNECT, 'says = ["CONNECT-3"]', 'says = ["CONNECT-9"]', ":26: there is no CONNECT-9"),
        (CONNECT, 'prefix = "CONNECT"', 'prefix = "CONNECT"\nsurprise = 1', ":3: unknown table or field 'surprise'"),
        (CONNECT, 'section = "connect"', 'section = "bind"', ": section must be 'connect', as the file is called"),
        ("spec/errata.toml", '["CONNECT-2"]', '["CONNECT-8"]', ":1: there is no CONNECT-8"),
        ("spec/errata.toml", 'severity = "A"', 'severity = "D"', ":1: severity is 'D', allowed: A, B, C"),
        ("spec/sections.toml", 'draft = ["D-1"]', 'draft = ["D-9"]', ":10: there is no D-9"),
        ("spec/sections.toml", 'id = "release"', 'id = "connect"', ":17: section 'connect' is there twice"),
        (
            "spec/drafts.toml",
            'section = "connect"',
            'section = "x"',
            ":1: section is 'x', allowed: title, connect, release",
        ),
    ],
)
def test_mistakes_are_found_where_they_are(small, path, old, new, message):
    small.replace(path, old, new)
    assert path + message in findings(small)


def test_file_of_no_section_is_found(small):
    small.write("spec/requirements/poll.toml", "")
    assert "spec/requirements/poll.toml: no section 'poll' in sections.toml" in findings(small)


def test_missing_file_is_found(small):
    (small.root / "spec" / "errata.toml").unlink()
    assert findings(small) == ["spec/errata.toml: is missing"]


def test_requirement_that_stands_nowhere_is_found(small):
    small.replace(CONNECT, 'says = ["CONNECT-3"]', 'information = "x"')
    assert findings(small) == [f"{CONNECT}:16: CONNECT-3 stands on no sentence of the document"]
