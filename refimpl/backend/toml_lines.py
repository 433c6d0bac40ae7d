"""On which line of a TOML file a key stands, which tomllib does not tell.

A section is named as its header has it, ``"limits.guest3"``; the n-th table of an array of tables, ``[[rule]]``, is
``"rule n"``; what stands before any header is in ``""``.
"""

from __future__ import annotations

import re
import tomllib

#: Strings of several lines, strings of one, comments: whatever could look like a key and is none.
_OPAQUE = re.compile(r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL)
_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\- \t]+?)\s*\]\]?\s*")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*[=.]")
_SYNTAX_ERROR = re.compile(r"\(at line ([0-9]+), column [0-9]+\)")


class TomlLines:
    """The lines of a file's headers and keys."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, str | None], int] = {}
        section, counts = "", dict[str, int]()
        for number, line in enumerate(_OPAQUE.sub(_blank, text).split("\n"), 1):
            header = _HEADER.fullmatch(line)
            key = _KEY.match(line)
            if header is not None:
                section = re.sub(r"\s", "", header[2])
                if header[1] == "[[":
                    counts[section] = counts.get(section, 0) + 1
                    section = f"{section} {counts[section]}"
                self._lines.setdefault((section, None), number)
            elif key is not None:
                self._lines.setdefault((section, key[1]), number)

    def find(self, section: str, key: str | None) -> int:
        """Return the line of a key, else of its section's header, else of what the section is named after, else 1."""
        name, _, inner = section.partition(".")
        for place in ((section, key), (section, None), (name, inner), ("", name.split(" ")[0])):
            if place in self._lines:
                return self._lines[place]
        return 1


def _blank(opaque: re.Match[str]) -> str:
    """Leave the line ends, so that the lines stay countable, and something to see that there was a value."""
    return "''" + "\n" * opaque[0].count("\n") if opaque[0][0] != "#" else ""


def line_of_syntax_error(error: tomllib.TOMLDecodeError, text: str) -> int:
    """Return the line that tomllib complains of: it says so in words, and of a file's end it does not."""
    said = _SYNTAX_ERROR.search(str(error))
    return int(said[1]) if said else text.count("\n") + (not text.endswith("\n"))
