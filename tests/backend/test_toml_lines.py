"""Lines of keys, among everything that only looks like one."""

from __future__ import annotations

import pytest

from refimpl.backend.toml_lines import TomlLines

TEXT = '''\
top = 1
many = """
[[rule]]
key = 1
"""
[[rule]]  # one
key = "[[rule]]"
[ limits . guest3 ]
key = 3
[[rule]]
"quoted" = 1
key = [
  "a",
]
'''


@pytest.mark.parametrize(
    ("section", "key", "line"),
    [
        ("", "top", 1),
        ("rule 1", None, 6),
        ("rule 1", "key", 7),
        ("limits.guest3", None, 8),
        ("limits.guest3", "key", 9),
        ("rule 2", None, 10),
        ("rule 2", "key", 12),
        ("rule 2", "quoted", 10),
        ("rule 3", "key", 1),
        ("nowhere", "key", 1),
    ],
)
def test_a_key_is_found_or_else_its_section(section: str, key: str | None, line: int) -> None:
    assert TomlLines(TEXT).find(section, key) == line
