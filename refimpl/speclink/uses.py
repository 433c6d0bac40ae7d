"""Where a definition is used: by its name, in the statements of functions and of tests.

What runs at import (a constant, a table, a layout, an enum) runs for no test. A test *uses* it when it runs a statement
that names it, or that names something made of it at import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from refimpl.speclink.citations import Citation, python_files
from refimpl.speclink.instrument import module_name
from refimpl.speclink.statements import Statements, bound_names, inner_blocks, is_docstring

#: A name at the top of a module: the module's dotted name, and the name.
Name = tuple[str, str]


class _Named(NamedTuple):
    """A statement with the names it mentions and, if it runs at import, those it binds."""

    path: str
    line: int
    mentions: frozenset[Name]
    binds: frozenset[Name]


class Uses:
    """The project's names and who mentions them."""

    def __init__(self, project: Path) -> None:
        #: Where the tests are read from.
        self.project = project
        self._statements: list[_Named] = []
        for path in python_files(project, "refimpl"):
            if not path.startswith("refimpl/speclink/"):
                self._statements += _statements(path, (project / path).read_text(encoding="utf-8"))
        self._tests: dict[str, dict[str, frozenset[Name]]] = {}

    def carriers(self, citation: Citation) -> frozenset[Name]:
        """Return the names by which a definition can be used: its own, and those made of it at import."""
        module = module_name(citation.path)
        names: set[Name] = {(module, name) for name in citation.statement.names}
        while True:
            more = {
                name
                for statement in self._statements
                if statement.binds and statement.mentions & names
                for name in statement.binds
            }
            if more <= names:
                return frozenset(names)
            names |= more

    def statements_naming(self, names: frozenset[Name]) -> list[str]:
        """Return the keys (``path:line``) of the statements in functions that mention one of the names."""
        return [f"{s.path}:{s.line}" for s in self._statements if not s.binds and s.mentions & names]

    def names_in_test(self, path: str, function: str) -> frozenset[Name]:
        """Return the names that a test function mentions, also through functions and constants of its file."""
        if path not in self._tests:
            self._tests[path] = _test_functions((self.project / path).read_text(encoding="utf-8"), path)
        return self._tests[path].get(function, frozenset())


def _imports(tree: ast.Module, module: str, is_package: bool) -> tuple[dict[str, Name], dict[str, str]]:
    """Return what the file's names mean: names of other modules, and modules, by local name."""
    names: dict[str, Name] = {}
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    modules[alias.asname] = alias.name
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                source = ".".join([*parts, *([source] if source else [])])
            for alias in node.names:
                local = alias.asname or alias.name
                names[local] = (source, alias.name)
                modules[local] = f"{source}.{alias.name}"
    return names, modules


class _Resolver:
    def __init__(self, tree: ast.Module, path: str) -> None:
        self.module = module_name(path)
        self.names, self.modules = _imports(tree, self.module, path.endswith("/__init__.py"))
        self.own = {n for node in tree.body for n in (*bound_names(node), getattr(node, "name", ""))}

    def mentioned(self, nodes: Iterable[ast.AST]) -> frozenset[Name]:
        """Return the names of modules' tops that the nodes mention."""
        return frozenset(name for node in nodes for part in ast.walk(node) for name in self._of(part))

    def _of(self, node: ast.AST) -> Iterator[Name]:
        if isinstance(node, ast.Name):
            if node.id in self.names:
                yield self.names[node.id]
            elif node.id in self.own:
                yield (self.module, node.id)
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node.value) if isinstance(node.value, ast.Name | ast.Attribute) else ""
            yield (self.modules.get(dotted, dotted), node.attr)


def _statements(path: str, text: str) -> Iterator[_Named]:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return  # the scan for citations says so
    resolver = _Resolver(tree, path)
    at_import = {s.first: s.names for s in Statements(tree) if s.names}
    for node in _all_statements(tree.body):
        binds = frozenset((resolver.module, name) for name in at_import.get(node.lineno, ()))
        if isinstance(node, ast.ImportFrom):
            for name in binds:
                yield _Named(path, node.lineno, frozenset({resolver.names[name[1]]}), frozenset({name}))
        else:
            yield _Named(path, node.lineno, resolver.mentioned(_own_parts(node)), binds)


def _all_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if not is_docstring(node):
            yield node
            for block in inner_blocks(node):
                yield from _all_statements(block)


def _own_parts(node: ast.stmt) -> list[ast.AST]:
    """Return a statement's own expressions, without the statements inside it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    parts: list[ast.AST] = []
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.match_case):
            parts += [part.pattern, *([part.guard] if part.guard else [])]
        elif not isinstance(part, ast.stmt | ast.ExceptHandler):
            parts.append(part)
    return parts


def _test_functions(text: str, path: str) -> dict[str, frozenset[Name]]:
    """Return, by the test's name as pytest has it, the names it mentions."""
    tree = ast.parse(text)
    resolver = _Resolver(tree, path)
    direct: dict[str, frozenset[Name]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    direct[f"{node.name}::{inner.name}"] = resolver.mentioned([inner])
        for name in (getattr(node, "name", ""), *bound_names(node)):
            if name:
                direct[name] = direct.get(name, frozenset()) | resolver.mentioned([node])
    return {name: _closure(names, direct, resolver.module) for name, names in direct.items()}


def _closure(names: frozenset[Name], direct: dict[str, frozenset[Name]], module: str) -> frozenset[Name]:
    while True:
        more = names.union(*(direct.get(name, ()) for owner, name in names if owner == module))
        if more == names:
            return names
        names = more
