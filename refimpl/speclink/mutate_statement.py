"""Take a citing statement's promise out of it: remove it, negate it, or spoil the value it defines."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from refimpl.speclink.statements import Statement, inner_blocks, is_docstring

_CONDITIONS = (ast.Compare, ast.BoolOp)


class NotFound(Exception):
    """No statement of the file starts on the line."""


def mutated(text: str, statement: Statement, line: int) -> tuple[ast.Module, str]:
    """Return the module without what the citation on ``line`` promises, and what was done, in words.

    Raises NotFound.
    """
    tree = ast.parse(text)
    for handler in ast.walk(tree):
        if isinstance(handler, ast.ExceptHandler) and handler.lineno == line < statement.first:
            handler.type = ast.Tuple([], ast.Load())
            return ast.fix_missing_locations(tree), "let the exception pass"
    for block, index in _places(tree.body):
        node = block[index]
        if node.lineno == statement.first and not is_docstring(node):
            replacement, what = _without(node, line if statement.names else 0)
            block[index] = ast.copy_location(replacement, node)
            return ast.fix_missing_locations(tree), what
    raise NotFound(f"no statement starts on line {statement.first}")


def _places(body: list[ast.stmt]) -> Iterator[tuple[list[ast.stmt], int]]:
    for index, node in enumerate(body):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield body, index
        for block in inner_blocks(node):
            yield from _places(block)


def _without(node: ast.stmt, entry_line: int) -> tuple[ast.stmt, str]:
    """Return what takes the statement's place. ``entry_line``: of a definition, the line that cites."""
    match node:
        case ast.If() | ast.While():
            node.test = _negated(node.test)
            return node, "negated the condition"
        case ast.For() | ast.AsyncFor():
            node.iter = ast.Tuple([], ast.Load())
            return node, "made the loop empty"
        case ast.With() | ast.AsyncWith() if not any(item.optional_vars for item in node.items):
            return ast.If(ast.Constant(True), node.body, []), "took the context away"
        case ast.Return():
            return _return(node)
        case ast.Assign() | ast.AnnAssign() if node.value is not None and entry_line:
            return _definition(node, entry_line)
        case ast.Assign() | ast.AnnAssign() if node.value is not None:
            return _assignment(node)
        case _:
            return _removed(node), "removed the statement"


def _negated(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def _removed(node: ast.stmt) -> ast.stmt:
    """Nothing, or, where the statement yields, nothing that yields: the function stays a generator."""
    if any(isinstance(part, ast.Yield | ast.YieldFrom) for part in ast.walk(node)):
        return ast.If(ast.Constant(False), [ast.Expr(ast.Yield())], [])
    return ast.Pass()


def _return(node: ast.Return) -> tuple[ast.stmt, str]:
    if node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None):
        return ast.Pass(), "did not return"
    spoilt = _spoilt(node.value)
    if spoilt is not None:
        node.value, what = spoilt
        return node, f"{what} what is returned"
    return ast.Return(None), "returned nothing"


def _assignment(node: ast.Assign | ast.AnnAssign) -> tuple[ast.stmt, str]:
    """In a function: a store into something is left out, a name gets another value."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if not any(isinstance(target, ast.Name | ast.Tuple) for target in targets):
        return _removed(node), "removed the statement"
    assert node.value is not None
    spoilt = _spoilt(node.value)
    if spoilt is not None:
        node.value, what = spoilt
        return node, f"{what} the value"
    if any(isinstance(target, ast.Tuple) for target in targets):
        return _removed(node), "removed the statement"
    node.value = ast.Constant(None)
    return node, "replaced the value with None"


def _definition(node: ast.Assign | ast.AnnAssign, line: int) -> tuple[ast.stmt, str]:
    """At import: the entry on the citing line is left out, or a value is spoilt, so that the module still loads."""
    assert node.value is not None
    if line > node.lineno and _drop_entry(node.value, line):
        return node, "left the entry out"
    spoilt = _spoilt(node.value)
    if spoilt is not None:
        node.value, what = spoilt
        return node, f"{what} the value"
    if _swap_parts(node.value):
        return node, "swapped two parts of the value"
    return _removed(node), "removed the definition"


def _drop_entry(value: ast.expr, line: int) -> bool:
    for part in ast.walk(value):
        if isinstance(part, ast.Dict):
            for index, item in enumerate(part.values):
                if item.lineno <= line <= (item.end_lineno or item.lineno):
                    del part.keys[index], part.values[index]
                    return True
        elif isinstance(part, ast.Tuple | ast.List | ast.Set):
            for index, item in enumerate(part.elts):
                if item.lineno == line == item.end_lineno:
                    del part.elts[index]
                    return True
        elif isinstance(part, ast.Call):
            for index, argument in enumerate(part.args):
                if argument.lineno == line == argument.end_lineno:
                    del part.args[index]
                    return True
    return False


def _swap_parts(value: ast.expr) -> bool:
    """Swap the first two parts that differ: two members of a layout, two entries of a tuple, two values of a table."""
    for part in ast.walk(value):
        items: list[ast.expr] = []
        if isinstance(part, ast.Call):
            items = part.args
        elif isinstance(part, ast.Tuple | ast.List):
            items = part.elts
        elif isinstance(part, ast.Dict):
            items = part.values
        for index, (one, other) in enumerate(itertools.pairwise(items)):
            if type(one) is type(other) and ast.dump(one) != ast.dump(other):
                items[index], items[index + 1] = other, one
                return True
    return False


def _spoilt(value: ast.expr) -> tuple[ast.expr, str] | None:
    """Return another value of the same kind, or None where there is no obvious one."""
    match value:
        case ast.Constant(value=bool() as flag):
            return ast.Constant(not flag), "negated"
        case ast.Constant(value=int() | float() as number):
            return ast.Constant(number + 1), "added 1 to"
        case ast.Constant(value=str() as text):
            return ast.Constant(text + "?"), "lengthened"
        case ast.Constant(value=bytes() as raw):
            return ast.Constant(raw + b"?"), "lengthened"
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)):
            return ast.UnaryOp(ast.USub(), ast.Constant(number + 1)), "took 1 from"
        case ast.UnaryOp(op=ast.Not()):
            return value.operand, "negated"
        case ast.BinOp():
            return ast.BinOp(value, ast.Add(), ast.Constant(1)), "added 1 to"
        case _ if isinstance(value, _CONDITIONS):
            return _negated(value), "negated"
    return None
