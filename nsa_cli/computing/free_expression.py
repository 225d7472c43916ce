"""Expressions that a model writes, with the figures of a document in place of its numbers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from nsa_cli.computing.expression import ExpressionError, parse
from nsa_cli.computing.figures import Figure
from nsa_cli.computing.forms import Form

_CONSTANTS = frozenset(("2", "3", "4", "5", "6", "7", "8", "9", "10", "12", "100", "360", "365"))
"""Numbers that need not stand in the document: counts, percent, months and days."""

_MOST_FIGURES = 12
_ANYTHING = re.compile(r"(?!)")


class FreeExpression(NamedTuple):
    """An expression with its figures.

    Attributes:
        form: Its form, with `{0}` and so on for the figures.
        digits: The digits of each figure, as a document has them.
    """

    form: Form
    digits: tuple[str, ...]


def free_expression(text: str, known: Iterable[str]) -> FreeExpression:
    """Parse an expression of a model.

    Args:
        text: The expression.
        known: The digits of the figures that a document has.

    Raises:
        ExpressionError: If it is no expression, has no operator, or a number that the document
            lacks.
    """
    tree, found = parse(text)
    there, digits = {*known}, list[str]()
    if not isinstance(tree, ast.BinOp):
        raise ExpressionError("it has no operator")
    percent = _is_hundred(tree.right, found) and isinstance(tree.op, ast.Mult)
    body = tree.left if percent else tree
    written = ast.unparse(_Placed(found, there, digits).visit(body))
    if not 2 <= len(digits) <= _MOST_FIGURES and not (percent and digits):
        raise ExpressionError(f"it has {len(digits)} figures of the document")
    form = Form(
        name=_name(body, percent=percent),
        template="",
        expression=written,
        percent=percent,
        stated=_ANYTHING,
    )
    return FreeExpression(form, tuple(digits))


def without_signs(figures: Sequence[Figure]) -> list[Figure]:
    """Return figures without the signs and parentheses of accounts: an expression has its own."""
    return [replace(each, text=each.text.strip("()").lstrip("-−").strip()) for each in figures]


class _Placed(ast.NodeTransformer):
    """Puts the places of figures, or the digits of constants, into a tree."""

    def __init__(self, found: Sequence[Figure], there: set[str], digits: list[str]) -> None:
        self._found, self._there, self._digits = found, there, digits

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        digits = self._found[int(str(node.value))].digits
        if digits in self._there:
            if digits not in self._digits:
                self._digits.append(digits)
            return ast.Name(id=f"{{{self._digits.index(digits)}}}")
        if digits in _CONSTANTS:
            return ast.Name(id=digits)
        raise ExpressionError(f"the passages do not have {digits}")


def _is_hundred(node: ast.expr, found: Sequence[Figure]) -> bool:
    return isinstance(node, ast.Constant) and found[int(str(node.value))].digits == "100"


def _name(tree: ast.expr, *, percent: bool) -> str:
    """The name of the form of an expression."""
    kinds = {type(node.op) for node in ast.walk(tree) if isinstance(node, ast.BinOp)}
    if percent:
        return "growth" if ast.Sub in kinds else "share"
    if kinds == {ast.Add}:
        return "sum"
    if kinds == {ast.Sub}:
        return "difference"
    if kinds == {ast.Add, ast.Div}:
        return "mean"
    return "ratio" if kinds == {ast.Div} else "other"
