"""The checked-in state: what it looks like, and when it is stale."""

from __future__ import annotations

import pytest

from refimpl.speclink import coverage_file


def stale(project) -> list[str]:
    findings: list = []
    coverage_file.check(project, findings)
    return [str(f).partition("; record a run")[0] for f in findings]


def test_file_has_one_line_each_in_the_documents_order(tested):
    small, run = tested
    assert coverage_file.render(small.loaded(run)) == (
        "# The state of every requirement, erratum and security rule, in the document's order.\n"
        "# Generated: pytest --evidence build/evidence/shm.json && refimpl spec coverage --write\n"
        "# id, level, state, platforms it is proved on, files that cite it\n"
        "# 4 requirements: 1 information, 1 proved, 1 disputed, 1 open\n"
        "\n[Connect]\n"
        "CONNECT-1           must   proved       shm            refimpl/connect.py\n"
        "CONNECT-2           must*  disputed     shm            refimpl/connect.py\n"
        "CONNECT-3           info   information  -              -\n"
        "\n[Release]\n"
        "RELEASE-1           must   open         -              -\n"
        "\n[errata]\n"
        "E-SIZE              A      pinned       shm            -\n"
        "\n[security]\n"
        "SEC-B-1             must*  proved       shm            refimpl/connect.py\n"
    )


def test_what_was_just_written_is_not_stale(tested):
    small, run = tested
    assert coverage_file.write(small.loaded(run))
    assert not coverage_file.write(small.loaded(run))
    assert stale(small.loaded(run)) == []
    assert stale(small.loaded()) == []


def test_missing_file_is_found(small):
    assert stale(small.loaded()) == ["spec/coverage.txt: is missing"]


def test_whole_run_decides_exactly(tested, run_of):
    small, run = tested
    coverage_file.write(small.loaded(run))
    less = run_of(file="less.json")
    assert stale(small.loaded(less)) == [
        "spec/coverage.txt:7: stale: CONNECT-1 was proved on shm, is hollow on -",
        "spec/coverage.txt:8: stale: CONNECT-2 was disputed on shm, is hollow on -",
        "spec/coverage.txt:15: stale: E-SIZE was pinned on shm, is unpinned on -",
        "spec/coverage.txt:18: stale: SEC-B-1 was proved on shm, is hollow on -",
    ]


def test_part_of_a_run_decides_nothing(tested, run_of):
    small, run = tested
    coverage_file.write(small.loaded(run))
    assert stale(small.loaded(run_of(is_whole=False, file="part.json"))) == []


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        (
            "refimpl/connect.py",
            "# CONNECT-1, SEC-B-1",
            "# SEC-B-1",
            "7: stale: CONNECT-1 was cited in refimpl/connect.py, is cited in -",
        ),
        (
            "tests/test_x.py",
            '@pytest.mark.spec("CONNECT-1")\n',
            "",
            "7: stale: CONNECT-1 was proved, and now no test names it and a line cites it",
        ),
        (
            "tests/test_x.py",
            '@pytest.mark.erratum("E-SIZE")\n',
            "",
            "15: stale: E-SIZE was pinned, and no test names it any more",
        ),
        (
            "tests/test_x.py",
            '"CONNECT-2"',
            '"RELEASE-1"',
            "12: stale: RELEASE-1 was open, and now a test names it and no line cites it",
        ),
        ("spec/coverage.txt", "CONNECT-3   ", "CONNECT-9   ", "9: stale: CONNECT-9 is not in spec/"),
        ("spec/coverage.txt", "information  -              -\n", "information\n", "9: is no line of this file"),
        (
            "spec/coverage.txt",
            "CONNECT-1           must ",
            "CONNECT-1           may  ",
            "7: stale: CONNECT-1 was may, is must",
        ),
    ],
)
def test_sources_tell_without_a_run(tested, path, old, new, message):
    small, run = tested
    coverage_file.write(small.loaded(run))
    small.replace(path, old, new)
    assert any(found.startswith(f"spec/coverage.txt:{message}") for found in stale(small.loaded()))
