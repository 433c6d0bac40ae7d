"""Read a copy of the document: its headings, and under each the sentences, items, rows and layouts in order.

Reads the HTML that pandoc makes of it (Debian's package ``xen-doc``), gzipped or not. The document's own text stays
in memory: what is kept of it, in ``spec/``, is the SHA-256 of each sentence.

Two traps of that HTML: the types ``<string>`` and ``<uint32_t>`` stand in it unescaped, as if they were tags, and
lists that follow their introduction without an empty line are run together with it into one paragraph.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

#: Where a copy is looked for when none is named.
DEBIAN_COPIES = tuple(Path("/usr/share/doc") / folder / "html/misc/pvcalls.html" for folder in ("xen", "xen-doc"))
DEBIAN_PACKAGE = "xen-doc"

_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_BLOCKS = {"p", "li", "ul", "ol", "pre"}
# The document's own angle brackets: `version Values: <string>`.
_TYPES_AS_TAGS = {"string", "uint32_t"}
_PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "`": None})
# Stars that touch a word; one between spaces multiplies, one at a slash opens or ends a C comment.
_EMPHASIS = re.compile(r"(?<=[^\s/])\*(?!/)|(?<!/)\*(?=[^\s/])")


class NotTheDocument(Exception):
    """The file is no copy of the PV Calls document."""


class Sentence(NamedTuple):
    """The smallest thing a requirement can stand on, normalised.

    ``kind`` is ``"sentence"``, ``"item"`` (of a list), ``"row"`` (of a table or of definitions), ``"layout"``
    (a drawing) or ``"code"`` (a C structure or function).
    """

    kind: str
    text: str

    @property
    def sha256(self) -> str:
        """The pin: lower-case hex of the SHA-256 of the normalised text in UTF-8."""
        return digest(self.text)


class Heading(NamedTuple):
    """A heading with what stands under it, up to the next heading of any level (1 to 6)."""

    level: int
    title: str
    sentences: tuple[Sentence, ...]


class _Block(NamedTuple):
    kind: str
    text: str


def normalise(text: str) -> str:
    """Reduce to what two editions of the same sentence share: no emphasis, plain quotes, single spaces."""
    return " ".join(_EMPHASIS.sub("", text.translate(_PLAIN)).split())


def digest(text: str) -> str:
    """Return the SHA-256, in lower-case hex, of the normalised text."""
    return hashlib.sha256(normalise(text).encode()).hexdigest()


def find_copy() -> Path | None:
    """Find the copy that Debian's package installs, or None."""
    for path in DEBIAN_COPIES:
        for candidate in (path, path.with_suffix(".html.gz")):
            if candidate.is_file():
                return candidate
    return None


def read(path: Path) -> list[Heading]:
    """Parse a copy of the document. Raises OSError, and NotTheDocument when it is something else."""
    raw = path.read_bytes()
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise NotTheDocument(f"{path}: broken gzip: {error}") from error
    headings = parse(raw.decode("utf-8", "replace"))
    if not headings or not headings[0].title.startswith("PV Calls Protocol"):
        raise NotTheDocument(f"{path}: no copy of the PV Calls document (its first heading is missing)")
    return headings


def parse(html: str) -> list[Heading]:
    """Parse the document's HTML."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return [Heading(level, title, tuple(_sentences(blocks))) for level, title, blocks in reader.headings]


class _Reader(HTMLParser):
    """Cut the page into headings and, under each, blocks of text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.headings: list[tuple[int, str, list[_Block]]] = []
        self._text: list[str] = []
        self._open: list[str] = []
        self._number = 0  # depth inside the number that pandoc puts before a heading's words

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _TYPES_AS_TAGS:
            self._text.append(f"<{tag}>")
        elif tag in _HEADINGS or tag in _BLOCKS:
            self._flush()
            self._open.append(tag)
        elif tag == "span" and ("class", "header-section-number") in attrs:
            self._number = 1

    def handle_endtag(self, tag: str) -> None:
        if tag in _HEADINGS:
            title = normalise("".join(self._text))
            self._text.clear()
            self._open.clear()
            self.headings.append((int(tag[1]), title, []))
        elif tag in _BLOCKS and tag in self._open:
            self._flush()
            while self._open and self._open.pop() != tag:
                pass
        elif tag == "span":
            self._number = 0

    def handle_data(self, data: str) -> None:
        if not self._number:
            self._text.append(data)

    def _flush(self) -> None:
        text = "".join(self._text)
        self._text.clear()
        if not self.headings or not text.strip() or not self._open:
            return
        kind = "pre" if "pre" in self._open else "item" if "li" in self._open else "sentence"
        self.headings[-1][2].append(_Block(kind, text))


def _sentences(blocks: list[_Block]) -> list[Sentence]:
    found: list[Sentence] = []
    for block in blocks:
        found += _of_pre(block.text) if block.kind == "pre" else _of_prose(block.kind, block.text)
    return [s for s in found if s.text]


def _of_prose(kind: str, text: str) -> list[Sentence]:
    """Split a paragraph into sentences, and a list that was run together with its introduction into items."""
    introduction, *run_together = re.split(r"(?<=:)\s+[*-]\s+", text, maxsplit=1)
    found = [Sentence(kind, s) for s in split_sentences(introduction)]
    for rest in run_together:
        for item in re.split(r"\s[*-]\s", rest):
            found += [Sentence("item", s) for s in split_sentences(item)]
    return found


def split_sentences(text: str) -> list[str]:
    """Split normalised prose where a sentence ends; abbreviations end none."""
    parts = re.split(r"(?<=[.!?])(?<!i\.e\.)(?<!e\.g\.)\s+", normalise(text))
    return [p for p in parts if p]


def _of_pre(text: str) -> list[Sentence]:
    """Cut a preformatted block by what it shows."""
    if "*Front*" in text:
        return [Sentence("item", normalise(t)) for t in _two_columns(text)]
    if re.search(r"^\[E[A-Z0-9]+\]", text, re.MULTILINE):
        return [Sentence("row", normalise(line)) for line in text.splitlines()]
    if "+--" in text:
        return [Sentence("layout", normalise(chunk)) for chunk in _drawings(text)]
    if "#define" in text or "{" in text:
        return [Sentence(kind, normalise(chunk)) for kind, chunk in _definitions(text)]
    return _of_prose("sentence", text)


def _drawings(text: str) -> list[str]:
    # A figure keeps its empty lines; drawings of bytes stand one below the other with an empty line between.
    return [text] if "@0" in text else re.split(r"\n\s*\n", text)


def _definitions(text: str) -> list[tuple[str, str]]:
    """Split C text into one row a ``#define`` and one chunk a structure or function, blank lines inside kept."""
    found: list[tuple[str, str]] = []
    chunk: list[str] = []
    depth = 0

    def finish() -> None:
        if chunk:
            found.append(("code", "\n".join(chunk)))
            chunk.clear()

    for line in text.splitlines():
        if depth == 0 and line.startswith("#define"):
            finish()
            found.append(("row", line))
            continue
        if depth == 0 and not line.strip():
            finish()
            continue
        chunk.append(line)
        depth += line.count("{") - line.count("}")
    finish()
    return found


def _two_columns(text: str) -> list[str]:
    """Read a drawing of two ends side by side: the steps of each, in the order of their first lines."""
    lines = text.splitlines()
    header = next(i for i, line in enumerate(lines) if "*Front*" in line)
    middle = lines[header].index("*Back*") - 1
    steps: list[tuple[int, int, list[str]]] = []
    for column, (start, end) in enumerate(((0, middle), (middle, None))):
        current: list[str] = []
        for number, line in enumerate(lines[header + 1 :]):
            cell = line[start:end].strip()
            if cell in ("", "|", "V"):
                current = []
            elif cell.startswith(("- ", "Xenbus")) or not current:
                current = [cell.removeprefix("- ")]
                steps.append((number, column, current))
            else:
                current.append(cell)
    ends = ("Front", "Back")
    return [f"{ends[column]}: {' '.join(words)}" for _, column, words in sorted(steps, key=lambda s: s[:2])]
