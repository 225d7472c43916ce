"""Arithmetic expressions over figures, evaluated exactly, with scales and units."""

from __future__ import annotations

import ast
import decimal
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from nsa_cli.computing.figures import Figure, numbers

PERCENT = "percent"
POINTS = "points"

_MOST_CHARACTERS = 400
_MOST_NODES = 64
_MOST_POWER = 64
_MOST_DECIMALS = 12
_DIGITS = 50
_GREATEST = Decimal(10) ** 40
_SIGNS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**"}
_CONTEXT = decimal.Context(
    prec=_DIGITS,
    traps=[decimal.DivisionByZero, decimal.InvalidOperation, decimal.Overflow],
)


class ExpressionError(ValueError):
    """An expression that has another form, mixes units, or has no value."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A value with its unit.

    Attributes:
        value: The value; 12 for 12 percent.
        unit: As in `Quantity`, `percent`, `points`, or a quotient such as `eur/day`; None without.
        is_ratio: Whether it is a quotient of two values of one unit.
    """

    value: Decimal
    unit: str | None = None
    is_ratio: bool = False


def evaluate(text: str, decimal: str | None = None) -> Measure:
    """Evaluate an expression.

    It may have figures with scales and units, `+ - * / **`, parentheses, and the functions `min`,
    `max`, `abs` and `round`. A percentage times a value is that part of it, a ratio times 100 a
    percentage.

    Args:
        text: The expression, such as `365 × 1,204 / 10,667`.
        decimal: The decimal sign of its figures; see `decimal_sign`.

    Raises:
        ExpressionError: If it has another form or is too long, if units do not agree, or if it has
            no value.
    """
    return evaluate_figures(*parse(text, decimal))


def parse(text: str, decimal: str | None = None) -> tuple[ast.expr, list[Figure]]:
    """Parse an expression; constants of the tree are the indices of its figures.

    Args:
        text: The expression.
        decimal: The decimal sign of its figures; see `decimal_sign`.

    Raises:
        ExpressionError: If it is not an expression, or too long.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ExpressionError(f"the expression has more than {_MOST_CHARACTERS} characters")
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    found = list(numbers(text, signed=False, decimal=decimal))
    between, at = list[str](), 0
    for figure in found:
        between.append(text[at : figure.start])
        at = figure.end
    between.append(text[at:])
    if any(char.isdigit() for char in "".join(between)):
        raise ExpressionError("a number of the expression cannot be read")
    source = (
        "".join(f"{before} {index} " for index, before in enumerate(between[:-1])) + between[-1]
    )
    try:
        tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ExpressionError("not an arithmetic expression") from error
    if sum(1 for _ in ast.walk(tree)) > 3 * _MOST_NODES:
        raise ExpressionError("the expression is too long")
    return tree, found


def evaluate_figures(tree: ast.expr, figures: Sequence[Figure]) -> Measure:
    """Evaluate a parsed expression; see `evaluate`.

    Args:
        tree: From `parse`.
        figures: The figures that its constants index.
    """
    try:
        with decimal.localcontext(_CONTEXT):
            found = _value(tree, figures)
    except (ArithmeticError, RecursionError) as error:
        raise ExpressionError("the expression has no value") from error
    if abs(found.value) > _GREATEST:
        raise ExpressionError("the value is too large")
    return found


def _value(node: ast.expr, figures: Sequence[Figure]) -> Measure:
    match node:
        case ast.Constant(value=int(index)) if not isinstance(index, bool):
            return Measure(figures[index].value, figures[index].quantity.unit)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            found = _value(operand, figures)
            sign = -1 if isinstance(node.op, ast.USub) else 1
            return Measure(sign * found.value, found.unit, found.is_ratio)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, figures), _value(right, figures))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if args:
            return _call(name, [_value(each, figures) for each in args])
    raise ExpressionError("only numbers, + - * / **, ( ), min, max, abs and round may be in it")


def _call(name: str, values: Sequence[Measure]) -> Measure:
    """Call one of the four functions."""
    first = values[0]
    if name in ("min", "max"):
        unit = _common(values)
        best = {"min": min, "max": max}[name](each.value for each in values)
        return Measure(best, unit)
    if name == "abs" and len(values) == 1:
        return Measure(abs(first.value), first.unit, first.is_ratio)
    if name == "round" and len(values) <= 2:
        places = values[1].value if len(values) == 2 else Decimal(0)
        if places not in range(_MOST_DECIMALS + 1):
            raise ExpressionError(f"round takes a number of decimals from 0 to {_MOST_DECIMALS}")
        return Measure(round(first.value, int(places)), first.unit, first.is_ratio)
    raise ExpressionError(f"no function {name} with {len(values)} values")


def _common(values: Sequence[Measure]) -> str | None:
    """The unit of values that can be added; those without a unit have any.

    Raises:
        ExpressionError: If they have different units.
    """
    units = {each.unit for each in values if each.unit is not None}
    if len(units) > 1:
        raise ExpressionError(f"different units: {', '.join(sorted(units))}")
    return next(iter(units), None)


def _share(value: Measure) -> Decimal:
    """The value, of a percentage as a share of 1."""
    return value.value / 100 if value.unit == PERCENT else value.value


def _sum(step: Callable[[Decimal, Decimal], Decimal]) -> Callable[[Measure, Measure], Measure]:
    def apply(left: Measure, right: Measure) -> Measure:
        if {left.unit, right.unit} == {PERCENT, None}:  # 1 + 5 %
            return Measure(step(_share(left), _share(right)))
        unit = _common([left, right])
        if unit == PERCENT and step is operator.sub:
            unit = POINTS
        return Measure(step(left.value, right.value), unit)

    return apply


def _product(left: Measure, right: Measure) -> Measure:
    for one, other in ((left, right), (right, left)):
        if one.is_ratio and other.unit is None and other.value == 100 and not other.is_ratio:
            return Measure(one.value * 100, PERCENT)
    units = [each.unit for each in (left, right) if each.unit not in (None, PERCENT)]
    if len(units) > 1:
        raise ExpressionError(f"{units[0]} cannot be multiplied by {units[1]}")
    return Measure(_share(left) * _share(right), next(iter(units), None))


def _quotient(left: Measure, right: Measure) -> Measure:
    if left.unit == right.unit:
        return Measure(left.value / right.value, None, is_ratio=True)
    if left.unit == PERCENT and right.unit is None:
        return Measure(left.value / right.value, PERCENT)
    if right.unit in (None, PERCENT):
        return Measure(left.value / _share(right), left.unit)
    if left.unit in (None, PERCENT):
        return Measure(_share(left) / right.value, f"1/{right.unit}")
    return Measure(left.value / right.value, f"{left.unit}/{right.unit}")


def _power(left: Measure, right: Measure) -> Measure:
    if left.unit not in (None, PERCENT) or right.unit is not None:
        raise ExpressionError("a power has no units")
    if abs(right.value) > _MOST_POWER:
        raise ExpressionError(f"an exponent is above {_MOST_POWER}")
    return Measure(_share(left) ** right.value)


_OPERATORS: dict[type[ast.operator], Callable[[Measure, Measure], Measure]] = {
    ast.Add: _sum(operator.add),
    ast.Sub: _sum(operator.sub),
    ast.Mult: _product,
    ast.Div: _quotient,
    ast.Pow: _power,
}
