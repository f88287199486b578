"""Single-line changes of a Python file that a test should notice: one operator, number or function name at a time."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_PAIRS = [("floor", "ceil"), ("min", "max"), ("amin", "amax"), ("argmin", "argmax"), ("sum", "mean"), ("any", "all")]
_FUNCTIONS = {**dict(_PAIRS), **{second: first for first, second in _PAIRS}, "round": "floor", "minimum": "maximum"}
# An error's words are for people, a version is no number that computes, and an annotation does not run.
_NOT_COMPUTED = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Assert)


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        line: The line that changes, from 1.
        scope: First line of the function around it, as `co_firstlineno` has it; 0 outside of functions.
        before: The expression as it is.
        after: As it becomes.
        source: The whole file with the change.
    """

    line: int
    scope: int
    before: str
    after: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yields every change of a file, in the order of its lines; expressions of more than one line are left alone."""
    lines = source.splitlines(keepends=True)
    for node, scope in _expressions(ast.parse(source), 0):
        if node.lineno != node.end_lineno:
            continue
        line = lines[node.lineno - 1].encode()  # offsets count bytes
        start, end = node.col_offset, node.end_col_offset
        for changed in _changes(node):
            text = ast.unparse(changed)
            after = text if isinstance(node, ast.Constant | ast.Call) else f"({text})"
            new = (line[:start] + after.encode() + line[end:]).decode()
            whole = "".join([*lines[: node.lineno - 1], new, *lines[node.lineno :]])
            yield Mutant(node.lineno, scope, line[start:end].decode(), text, whole)


def _expressions(node: ast.AST, scope: int) -> Iterator[tuple[ast.expr, int]]:
    """Yields the expressions that compute, each with the first line of its function."""
    if isinstance(node, _NOT_COMPUTED) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return
    if (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id in ("version", "unjudged")
    ):
        return
    if (
        isinstance(node, ast.keyword) and node.arg == "strict"
    ):  # of zip: a check of our own, which no right program needs
        return
    if isinstance(node, ast.expr):
        yield node, scope
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        inner = scope
        if name == "body" and isinstance(node, ast.FunctionDef):
            inner = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _expressions(child, inner)


def _changes(node: ast.expr) -> Iterator[ast.expr]:
    twin = copy.deepcopy(node)
    match node, twin:
        case ast.Compare(ops=[op]), ast.Compare():
            twin.ops = [_COMPARE[type(op)]()]
            yield twin
        case ast.BinOp(op=op), ast.BinOp() if type(op) in _BINARY:
            if not any(
                isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (node.left, node.right)
            ):
                twin.op = _BINARY[type(op)]()
                yield twin
        case ast.BoolOp(op=op), ast.BoolOp():
            twin.op = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield twin
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand), _:
            if not isinstance(operand, ast.Constant):
                yield operand
        case ast.Constant(value=bool(value)), ast.Constant():
            twin.value = not value
            yield twin
        case ast.Constant(value=int(value) | float(value)), ast.Constant():
            twin.value = value + 1 if isinstance(value, int) or value == 0 else value * 2
            yield twin
        case ast.Call(func=ast.Name(id=name)), ast.Call(func=ast.Name()) if name in (
            "min",
            "max",
            "any",
            "all",
            "round",
        ):
            twin.func.id = "int" if name == "round" else _FUNCTIONS[name]
            yield twin
        case ast.Call(func=ast.Attribute(attr=name)), ast.Call(func=ast.Attribute()) if name in _FUNCTIONS:
            twin.func.attr = _FUNCTIONS[name]
            yield twin
