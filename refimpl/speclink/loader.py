"""Import the project's modules from code prepared beforehand: with probes in it, or with a mutation.

The code lies in a folder, one file a module, marshalled; whatever is not there is imported as always. Children get the
folder through the environment and this module through ``child/sitecustomize.py`` on their path.

Imports little, since every process of a recorded run imports it.
"""

from __future__ import annotations

import importlib.machinery
import marshal
import os
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType

from refimpl.speclink import probe

#: Under these names a prepared module finds :data:`refimpl.speclink.probe.seen` and :func:`refimpl.speclink.probe.ran`.
SEEN, RAN = "__speclink_seen__", "__speclink_ran__"


def code_file(folder: str, module: str) -> str:
    """Return where a module's prepared code lies."""
    return os.path.join(folder, f"{module}.{sys.implementation.cache_tag}")


class _PreparedLoader(importlib.machinery.SourceFileLoader):
    """Runs prepared code in place of what the file would compile to."""

    def __init__(self, fullname: str, path: str, prepared: str) -> None:
        super().__init__(fullname, path)
        self._prepared = prepared

    def get_code(self, fullname: str) -> CodeType | None:
        with open(self._prepared, "rb") as file:
            code = marshal.load(file)
        return code if isinstance(code, CodeType) else super().get_code(fullname)

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, SEEN, probe.seen)
        setattr(module, RAN, probe.ran)
        super().exec_module(module)


class PreparedFinder:
    """Finds the modules whose prepared code lies in the folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._modules = {name.removesuffix(f".{sys.implementation.cache_tag}") for name in os.listdir(folder)}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the usual spec with our loader in it, or None where nothing is prepared."""
        if fullname not in self._modules:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = _PreparedLoader(fullname, spec.origin, code_file(self._folder, fullname))
        return spec


def install(folder: str) -> None:
    """Import prepared modules from now on."""
    sys.meta_path.insert(0, PreparedFinder(folder))


def start_in_child() -> None:
    """In a process that a test started: import prepared code, and record."""
    folder = os.environ.get(probe.FOLDER_VARIABLE)
    if folder:
        install(folder)
        probe.become_child()
