"""Expressions that a model writes, with the figures of a document in place of its numbers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple, TypeGuard

from nsa_cli.computing.expression import ExpressionError, parse
from nsa_cli.computing.figures import Figure
from nsa_cli.computing.forms import Form
from nsa_cli.retrieval.quantities import Quantity, tokens_of

CONSTANTS = frozenset(("2", "3", "4", "5", "6", "7", "8", "9", "10", "12", "100", "360", "365"))
"""Numbers that need not stand in the document: counts, percent, months and days.

A 1 has to, unless it is the one of a growth, `a / b - 1`.
"""

_FUNCTIONS = frozenset(("min", "max", "abs", "round"))
_PARTS = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Name, ast.Load, ast.operator, ast.unaryop)
_MOST_FIGURES = 12
_NUMBER = re.compile(r"\d(?:[\d.,'’ ]*\d)?")
_SEPARATORS = re.compile(r"[.,'’ ]")
_MANY_DIGITS = 6
"""Digits of a number that no other one has by chance."""

_SIGN = re.compile(r"[-−()]\s*")


class FreeExpression(NamedTuple):
    """An expression with its figures.

    Attributes:
        form: Its form, with `{0}` and so on for the figures.
        digits: The digits of each figure, as a document has them.
    """

    form: Form
    digits: tuple[str, ...]


def free_expression(
    text: str,
    known: Iterable[str],
    *,
    asks_percent: bool = False,
    in_words: Iterable[str] = (),
) -> FreeExpression:
    """Parse an expression of a model.

    A number may have other separators than the document's figure that it means.

    Args:
        text: The expression.
        known: The digits of the figures that a document has.
        asks_percent: Whether the question asks for a percentage: then a quotient is one.
        in_words: Constants by which a single figure may be divided: the document has them in words.

    Raises:
        ExpressionError: If it is no arithmetic expression, has no operator, or a number that the
            document lacks.
    """
    there, digits = {*known}, list[str]()
    tree, found = parse(_as_written(text, there))
    if not isinstance(tree, ast.BinOp):
        raise ExpressionError("it has no operator")
    if not all(map(_is_arithmetic, ast.walk(tree))):
        raise ExpressionError("not an arithmetic expression")
    percent = _is_times_hundred(tree, found)
    body = tree.left if percent else tree
    percent = percent or (asks_percent and isinstance(tree.op, ast.Div))
    by_words = isinstance(tree.op, ast.Div) and _digits(tree.right, found) in {*in_words}
    written = ast.unparse(_Placed(found, there, digits).visit(body))
    if not 2 <= len(digits) <= _MOST_FIGURES and not (digits and (percent or by_words)):
        raise ExpressionError(f"it has {len(digits)} figures of the document")
    form = Form(
        name=_name(body, percent=percent),
        template="",
        expression=written,
        percent=percent,
    )
    return FreeExpression(form, tuple(digits))


def _as_written(text: str, there: set[str]) -> str:
    """An expression with the separators that its figures have in a document."""

    def written(found: re.Match[str]) -> str:
        number = found.group()
        if number in there or number in CONSTANTS:
            return number
        same = [each for each in there if _is_same(number, each)]
        return same[0] if len(same) == 1 else number

    return _NUMBER.sub(written, text)


def _is_same(one: str, other: str) -> bool:
    """Whether two numbers have the same digits, and the same value unless these are many."""
    if _SEPARATORS.sub("", one) != _SEPARATORS.sub("", other):
        return False
    return len(_SEPARATORS.sub("", one)) >= _MANY_DIGITS or bool(_values(one) & _values(other))


def _values(digits: str) -> frozenset[Decimal]:
    """The values that digits may have; none if they are no number."""
    found = tokens_of(digits)
    one = found[0] if len(found) == 1 else None
    return one.values if isinstance(one, Quantity) else frozenset()


def without_signs(figures: Sequence[Figure]) -> list[Figure]:
    """Return figures without the signs and parentheses of accounts: an expression has its own."""
    return [_without_sign(each) for each in figures]


def _without_sign(figure: Figure) -> Figure:
    first = figure.text.index(figure.digits)
    text = _SIGN.sub("", figure.text[:first]) + figure.text[first:].rstrip("()")
    values = frozenset(map(abs, figure.quantity.values))
    return replace(figure, text=text, quantity=replace(figure.quantity, values=values))


class _Placed(ast.NodeTransformer):
    """Puts the places of figures, or the digits of constants, into a tree."""

    def __init__(self, found: Sequence[Figure], there: set[str], digits: list[str]) -> None:
        self._found, self._there, self._digits = found, there, digits

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if isinstance(node.op, (ast.Sub, ast.Div)) and self._is_one(node.left, node.right):
            raise ExpressionError("a figure is compared with itself")
        if _is_count(node, self._found):
            return ast.BinOp(
                left=self.visit(node.left),
                op=node.op,
                right=ast.Name(id=_digits(node.right, self._found)),
            )
        return self.generic_visit(node)

    def _is_one(self, left: ast.expr, right: ast.expr) -> bool:
        digits = _digits(left, self._found)
        return bool(digits) and digits == _digits(right, self._found)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        digits = _digits(node, self._found)
        if digits in self._there:
            if digits not in self._digits:
                self._digits.append(digits)
            return ast.Name(id=f"{{{self._digits.index(digits)}}}")
        if digits in CONSTANTS:
            return ast.Name(id=digits)
        raise ExpressionError(f"the passages do not have {digits}")


def _is_arithmetic(node: ast.AST) -> bool:
    """Whether a part of a tree may be in an expression; `evaluate_figures` tells the operators."""
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS
    return isinstance(node, _PARTS) or _is_number(node)


def _is_number(node: ast.AST) -> TypeGuard[ast.Constant]:
    """Whether a part is the index of a figure, and not a text or a truth value."""
    return isinstance(node, ast.Constant) and type(node.value) is int


def _digits(node: ast.expr, found: Sequence[Figure]) -> str:
    """The digits of a number; an empty string for another part."""
    return found[int(str(node.value))].digits if _is_number(node) else ""


def _is_count(node: ast.BinOp, found: Sequence[Figure]) -> bool:
    """Whether the right side is a constant by its place, although the document may have it.

    It is the 100 of a percentage, the number of values that are averaged, or the 1 of a growth.
    """
    digits = _digits(node.right, found)
    if isinstance(node.op, ast.Div):
        return digits == str(_terms(node.left)) != "1"
    is_growth = isinstance(node.op, ast.Sub) and digits == "1"
    return _is_times_hundred(node, found) or (
        is_growth and isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Div)
    )


def _terms(node: ast.expr) -> int:
    """How many values a sum has; 1 for another part."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _terms(node.left) + _terms(node.right)
    return 1


def _is_times_hundred(node: ast.BinOp, found: Sequence[Figure]) -> bool:
    return isinstance(node.op, ast.Mult) and _digits(node.right, found) == "100"


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
