"""Read a TOML file entry by entry, with the line of each: tomllib itself remembers none."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refimpl.speclink.findings import Finding


class Entry:
    """One table of a file. Each field is asked for once; what nobody asked for is unknown and said so."""

    def __init__(self, table: dict[str, Any], path: str, line: int, findings: list[Finding]) -> None:
        self._left = dict(table)
        self.path = path
        self.line = line
        self._findings = findings

    def complain(self, message: str) -> None:
        """Add a finding at this entry."""
        self._findings.append(Finding(self.path, self.line, message))

    def _take(self, key: str, kind: type, needed: bool) -> Any:
        if key not in self._left:
            if needed:
                self.complain(f"{key} is missing")
            return kind()
        value = self._left.pop(key)
        if not isinstance(value, kind):
            self.complain(f"{key} must be {_WORDS[kind]}, not {value!r}")
            return kind()
        return value

    def text(self, key: str, allowed: Sequence[str] = (), *, needed: bool = True) -> str:
        """Take a string, one of ``allowed`` where that is given; empty when it is missing."""
        value: str = self._take(key, str, needed)
        if value and allowed and value not in allowed:
            self.complain(f"{key} is {value!r}, allowed: {', '.join(allowed)}")
        if needed and not value.strip() and key in self._left:
            self.complain(f"{key} is empty")
        return value

    def texts(self, key: str, allowed: Sequence[str] = (), *, needed: bool = True) -> tuple[str, ...]:
        """Take a list of strings; empty when it is missing."""
        values: list[Any] = self._take(key, list, needed)
        for value in values:
            if not isinstance(value, str) or (allowed and value not in allowed):
                self.complain(f"{key} holds {value!r}, allowed: {', '.join(allowed) or 'strings'}")
        return tuple(str(value) for value in values)

    def number(self, key: str) -> int:
        """Take an integer; 0 when it is missing."""
        value: int = self._take(key, int, True)
        return value

    def finish(self) -> None:
        """Complain of fields nobody asked for."""
        for key in self._left:
            self.complain(f"unknown field {key!r}")


_WORDS = {str: "a string", list: "a list", int: "an integer", dict: "a table"}


class TomlFile:
    """A parsed file, or an empty one if it could not be read: then the finding is there already."""

    def __init__(
        self, path: str, text: str, content: dict[str, Any], findings: list[Finding], *, is_readable: bool = True
    ) -> None:
        self.path = path
        self.is_readable = is_readable
        self._lines = text.splitlines()
        self._content = content
        self._findings = findings

    def complain(self, message: str, line: int = 0) -> None:
        """Add a finding about the file."""
        self._findings.append(Finding(self.path, line, message))

    def allow(self, *names: str) -> None:
        """Complain of any other name at the top."""
        for name in self._content.keys() - set(names):
            self.complain(f"unknown table or field {name!r}", self._line_of(rf"\[*{re.escape(name)}\b"))

    def text(self, name: str) -> str:
        """Return a string that stands at the top."""
        value = self._content.get(name, "")
        if not isinstance(value, str) or (not value and self._content):
            self.complain(f"{name} must be a string")
            return ""
        return value

    def table(self, name: str) -> dict[str, Any]:
        """Return a table, empty if it is missing."""
        value = self._content.get(name, {})
        return value if isinstance(value, dict) else {}

    def entries(self, name: str, inner: str = "") -> list[Entry]:
        """Return the entries of ``[[name]]``, or of the list ``inner`` of inline tables in ``[name]``."""
        value = self.table(name).get(inner, []) if inner else self._content.get(name, [])
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            self.complain(f"{name} must be a list of tables")
            return []
        starts = self._starts(r"\s*\{" if inner else rf"\[\[\s*{re.escape(name)}\s*\]\]")
        starts += [0] * (len(value) - len(starts))
        return [Entry(v, self.path, line, self._findings) for v, line in zip(value, starts, strict=False)]

    def _starts(self, pattern: str) -> list[int]:
        match = re.compile(pattern).match
        return [number for number, line in enumerate(self._lines, 1) if match(line)]

    def _line_of(self, pattern: str) -> int:
        return next(iter(self._starts(pattern)), 0)


def read_toml(project: Path, path: str, findings: list[Finding]) -> TomlFile:
    """Read ``project/path``; a file that is missing or malformed becomes a finding and reads as empty."""
    try:
        text = (project / path).read_text(encoding="utf-8")
        return TomlFile(path, text, tomllib.loads(text), findings)
    except FileNotFoundError:
        findings.append(Finding(path, 0, "is missing"))
    except (OSError, UnicodeDecodeError) as error:
        findings.append(Finding(path, 0, f"cannot be read: {error}"))
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(at[1]) if at else text.count("\n") + 1
        findings.append(Finding(path, line, f"malformed TOML: {str(error).partition(' (at ')[0]}"))
    return TomlFile(path, "", {}, findings, is_readable=False)
