"""What a recorded run has to know of the project's code, with the prepared code itself.

It takes a second or two to make, and half a minute on an emulated machine: a run there is given one made beforehand, by
``python -m refimpl.speclink.preparation PROJECT FILE SEEN_AS``, through the environment.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, Self

from refimpl.speclink import catalogue as catalogue_module
from refimpl.speclink import citations, instrument, uses
from refimpl.speclink.citations import Citation
from refimpl.speclink.uses import Name

#: Names a file written by :meth:`Preparation.keep`, of the very sources that the run will see.
PREPARED_VARIABLE = "REFIMPL_EVIDENCE_PREPARED"


class Preparation(NamedTuple):
    """The citations and what follows from the text; ``code`` is the prepared code by its file's name."""

    citations: list[Citation]
    digests: dict[str, str]
    uses: uses.Uses
    #: Of citations that are definitions: the names they are used by, and the statements that mention one of those.
    carriers: dict[Citation, frozenset[Name]]
    users: dict[Citation, list[str]]
    #: Hash of each file that cites.
    sources: dict[str, str]
    code: dict[str, bytes]

    @classmethod
    def of(cls, project: Path, seen_as: Path | None = None) -> Self:
        """Make it from the project's files, for a run that sees the project at ``seen_as``."""
        catalogue = catalogue_module.load(project)
        sources = citations.scan(project, catalogue)
        found = [c for source in sources for c in source.citations]
        digests = {c.key: c.statement.digest(s.text.splitlines()) for s in sources for c in s.citations}
        names = uses.Uses(project)
        carriers = {c: names.carriers(c) for c in found if c.is_definition}
        users = {c: names.statements_naming(n) for c, n in carriers.items()}
        keys = {c.key for c in found if not c.is_definition}
        keys.update(key for of_one in users.values() for key in of_one)
        hashes = {path: sha256(project / path) for path in sorted({c.path for c in found})}
        code = _code(project, keys, seen_as or project)
        names.project = seen_as or project
        return cls(found, digests, names, carriers, users, hashes, code)

    @classmethod
    def given_or_of(cls, project: Path) -> Self:
        """Return the one that the environment names, or make one."""
        given = os.environ.get(PREPARED_VARIABLE)
        if not given:
            return cls.of(project)
        preparation = pickle.loads(Path(given).read_bytes())
        assert isinstance(preparation, cls)
        return preparation

    def keep(self, file: Path) -> None:
        """Write it to a file, for Pythons of this version."""
        file.write_bytes(pickle.dumps(self))


def _code(project: Path, keys: set[str], seen_as: Path) -> dict[str, bytes]:
    plan: dict[str, list[int]] = {}
    for key in keys:
        path, _, line = key.rpartition(":")
        plan.setdefault(path, []).append(int(line))
    with tempfile.TemporaryDirectory(prefix="refimpl-preparation-") as folder:
        instrument.prepare(project, plan, Path(folder), seen_as=seen_as)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def sha256(path: Path) -> str:
    """Return a file's hash."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    from refimpl.speclink import preparation  # Under its own name, by which it will be unpickled.

    preparation.Preparation.of(Path(sys.argv[1]), Path(sys.argv[3])).keep(Path(sys.argv[2]))
