"""Taking a statement's promise away: what becomes of each kind of statement."""

from __future__ import annotations

import ast

import pytest

from refimpl.speclink.mutate_statement import NotFound, mutated
from refimpl.speclink.statements import Statements


def mutate(text: str, line: int) -> tuple[str, str]:
    statement = Statements(ast.parse(text)).at(line)
    tree, what = mutated(text, statement, line)
    return ast.unparse(tree), what


@pytest.mark.parametrize(
    ("statement", "becomes", "what"),
    [
        ("if a:\n        b()", "if not a:\n        b()", "negated the condition"),
        ("if not a:\n        b()", "if a:\n        b()", "negated the condition"),
        ("while a < b:\n        c()", "while not a < b:\n        c()", "negated the condition"),
        ("for a in b:\n        c()", "for a in ():\n        c()", "made the loop empty"),
        ("with a:\n        b()", "if True:\n        b()", "took the context away"),
        ("with a as b:\n        b()", "pass", "removed the statement"),
        ("raise a", "pass", "removed the statement"),
        ("a()", "pass", "removed the statement"),
        ("yield a", "if False:\n        yield", "removed the statement"),
        ("a.b = c", "pass", "removed the statement"),
        ("a[0] = c", "pass", "removed the statement"),
        ("a += 1", "pass", "removed the statement"),
        ("a = 1", "a = 2", "added 1 to the value"),
        ("a = -1", "a = -2", "took 1 from the value"),
        ("a = b == c", "a = not b == c", "negated the value"),
        ("a = b | c", "a = (b | c) + 1", "added 1 to the value"),
        ("a = yield b", "a = None", "replaced the value with None"),
        ("a = b()", "a = None", "replaced the value with None"),
        ("a, b = c()", "pass", "removed the statement"),
        ("return a < b", "return not a < b", "negated what is returned"),
        ("return True", "return False", "negated what is returned"),
        ("return 'x'", "return 'x?'", "lengthened what is returned"),
        ("return a()", "return", "returned nothing"),
        ("return", "pass", "did not return"),
        ("return None", "pass", "did not return"),
    ],
)
def test_statements_in_functions(statement, becomes, what):
    assert mutate(f"def f():\n    {statement}\n", 2) == (f"def f():\n    {becomes}", what)


def test_exception_caught_where_the_citation_stands_is_caught_no_more():
    text = "try:\n    a()\nexcept ValueError:  # ID-1\n    pass\n"
    assert mutate(text, 3) == ("try:\n    a()\nexcept ():\n    pass", "let the exception pass")
    assert mutate(text, 4)[1] == "removed the statement"


@pytest.mark.parametrize(
    ("text", "line", "becomes", "what"),
    [
        ("A = 64", 1, "A = 65", "added 1 to the value"),
        ("A: int = 64", 1, "A: int = 65", "added 1 to the value"),
        ("class C:\n    A = -524", 2, "class C:\n    A = -525", "took 1 from the value"),
        ("A = {\n 1: 2,\n 3: 4,\n}", 3, "A = {1: 2}", "left the entry out"),
        ("A = f(\n 'x',\n ('a', 'I'),\n)", 3, "A = f('x')", "left the entry out"),
        ("A = (\n 1,\n 2,\n)", 2, "A = (2,)", "left the entry out"),
        (
            "A = f('n', ('a', 'I'), ('b', 'Q'))",
            1,
            "A = f('n', ('b', 'Q'), ('a', 'I'))",
            "swapped two parts of the value",
        ),
        ("A = (X.ONE, X.TWO)", 1, "A = (X.TWO, X.ONE)", "swapped two parts of the value"),
        ("A = f(b)", 1, "pass", "removed the definition"),
        ("A[1] = 2", 1, "A[1] = 3", "added 1 to the value"),
    ],
)
def test_definitions(text, line, becomes, what):
    assert mutate(text, line) == (becomes, what)


def test_statement_that_is_not_there():
    statement = Statements(ast.parse("a = 1")).at(1)
    with pytest.raises(NotFound, match="no statement starts on line 1"):
        mutated("\n\nb = 2\n", statement, 1)
