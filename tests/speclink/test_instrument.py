"""Probes: in front of the statements asked for, and nothing else changed."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest

from refimpl.speclink.instrument import module_name, with_probes
from refimpl.speclink.loader import RAN, SEEN
from refimpl.speclink.statements import Statements

ROOT = Path(__file__).parents[2]

CODE = textwrap.dedent(
    '''\
    def f(a):
        """Words."""
        if a == 1:
            return "one"
        elif a == 2:
            x = "two"
        else:
            for x in ("three", "four"):
                pass
        try:
            int(x)
        except ValueError:
            x += "!"
        finally:
            x = x.upper()
        match a:
            case 5:
                return g(x)
        with open("/dev/null"):
            return x

    def g(x):
        def inner():
            yield x
            yield a_class()
        return list(inner())

    def a_class():
        class C:
            y = 1
        return C.y

    z = f(1)
    '''
)


def reached(argument: int, lines: range = range(1, 100)) -> list[int]:
    """Run ``f`` with a probe at every statement; return the lines reached, in order."""
    found: list[int] = []
    namespace = {SEEN: set(), RAN: lambda key: found.append(int(key.rpartition(":")[2]))}
    exec(compile(with_probes(CODE, "x.py", lines), "x.py", "exec"), namespace)
    found.clear()
    namespace["f"](argument)
    return found


@pytest.mark.parametrize(
    ("argument", "lines"),
    [
        (1, [3, 4]),
        (2, [3, 5, 6, 10, 11, 13, 15, 16, 19, 20]),
        (3, [3, 5, 8, 9, 9, 10, 11, 13, 15, 16, 19, 20]),
        (5, [3, 5, 8, 9, 9, 10, 11, 13, 15, 16, 18, 23, 26, 24, 25, 29, 31]),
    ],
)
def test_every_statement_that_runs_is_reached(argument, lines):
    assert reached(argument) == lines


def test_what_is_not_asked_for_has_no_probe():
    assert reached(2, range(6, 7)) == [6]


def without_probes(tree: ast.Module) -> ast.Module:
    class Stripper(ast.NodeTransformer):
        def visit_If(self, node: ast.If):
            self.generic_visit(node)
            return None if SEEN in ast.dump(node.test) else node

    return ast.fix_missing_locations(Stripper().visit(tree))


def test_nothing_but_probes_is_added_to_our_own_modules():
    checked = 0
    for path in sorted((ROOT / "refimpl").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        prepared = with_probes(text, "x.py", [s.first for s in Statements(tree)])
        assert ast.dump(without_probes(prepared), include_attributes=True) == ast.dump(tree, include_attributes=True)
        checked += 1
    assert checked > 50


def test_module_names():
    assert module_name("refimpl/commands/connect.py") == "refimpl.commands.connect"
    assert module_name("refimpl/commands/__init__.py") == "refimpl.commands"
