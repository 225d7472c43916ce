"""An expression over cited figures, its value, and both in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from nsa_cli.computing.captions import Caption
from nsa_cli.computing.expression import PERCENT, POINTS, ExpressionError, Measure, evaluate
from nsa_cli.computing.figures import YEAR, Figure
from nsa_cli.computing.forms import Form
from nsa_cli.retrieval.number_words import CURRENCIES
from nsa_cli.retrieval.quantities import Quantity, tokens_of

_MOST_DECIMALS = 6
_LEAST_SHARE, _MOST_SHARE = Decimal("0.1"), Decimal(100)
_MOST_GROWTH = Decimal(1000)
"""Bounds of shares and growths in percent; beyond them the figures are of different things."""
_MOST_TIMES = 100_000
"""How many times a figure may be another one that is added to it or taken from it."""

_OF_ONE_KIND = ("difference", "points", "growth", "share", "ratio", "sum", "mean")
"""Forms that have either percentages or other figures."""

_UNITS = {PERCENT: "%", POINTS: "percentage points"}


def with_marks(result: str, expression: str, citations: int) -> str:
    """Return a result with its expression and the numbers of its citations."""
    marks = " ".join(f"[{number}]" for number in range(1, citations + 1))
    return f"{result} = {expression} {marks}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Calculation:
    """A computed answer.

    Attributes:
        expression: The expression, as it is evaluated.
        value: Its value, with the scale of its figures; 12 for 12 percent.
        unit: Its unit, or an empty string.
        result: The value in words.
    """

    expression: str
    value: Decimal
    unit: str
    result: str

    @property
    def is_percent(self) -> bool:
        """Whether the value is a percentage, or percentage points."""
        return self.unit in _UNITS.values()

    def sentence(self, citations: int) -> str:
        """The result with its expression and the numbers of its citations."""
        return with_marks(self.result, self.expression.replace("*", "×"), citations)


def calculate(form: Form, figures: Sequence[Figure], caption: Caption | None = None) -> Calculation:
    """Evaluate a form with figures.

    Args:
        form: The form.
        figures: A figure for each slot, in order.
        caption: The scale and the currency that a table's caption gives all of the figures.

    Raises:
        ExpressionError: If the units do not agree, there is no value, or it is implausible.
    """
    expression = form.expression.format(*(each.written for each in figures))
    found = evaluate(expression, figures[0].decimal if figures else None)
    unit = found.unit or form.unit
    value = found.value
    if form.percent:
        value, unit = value * 100, PERCENT
    _check_plausible(form, figures, value)
    try:
        decimals = _decimals(form, figures, value)
        shown = _in_words(form, figures, Measure(value, unit or None), decimals)
        rounded = round(value, _MOST_DECIMALS)
    except InvalidOperation as error:
        raise ExpressionError("the value has too many digits") from error
    if caption is not None and not found.is_ratio and form.same_units and not unit:
        rounded, unit = rounded * caption.scale, caption.currency
        shown = f"{shown} ({caption.text})"
    return Calculation(expression=expression, value=rounded, unit=_named(unit), result=shown)


def _check_plausible(form: Form, figures: Sequence[Figure], value: Decimal) -> None:
    """Refuse figures that are taken twice or of two kinds, and shares and growths out of bounds.

    Raises:
        ExpressionError: If the value is implausible.
    """
    if len({figure.start for figure in figures}) < len(figures):
        raise ExpressionError("a figure is taken twice")
    percents = {each.quantity.unit in (PERCENT, POINTS) for each in figures}
    if form.name in _OF_ONE_KIND and len(percents) > 1:
        raise ExpressionError("a percentage beside another figure")
    values = [abs(each.value) for each in figures if each.value]
    added = form.name in ("difference", "sum")
    if added and values and max(values) > _MOST_TIMES * min(values):
        raise ExpressionError("an amount beside one of another magnitude")
    if added and len({_is_amount(each) for each in figures}) > 1 and any(map(_is_year, figures)):
        raise ExpressionError("a year beside an amount")
    if form.name == "share" and not _LEAST_SHARE <= value <= _MOST_SHARE:
        raise ExpressionError(f"a share of {value:.4g} percent")
    if form.name == "growth" and abs(value) > _MOST_GROWTH:
        raise ExpressionError(f"a growth of {value:.4g} percent")


def _is_amount(figure: Figure) -> bool:
    return figure.quantity.unit is not None or figure.scale > 1


def _is_year(figure: Figure) -> bool:
    return not _is_amount(figure) and YEAR.fullmatch(figure.digits) is not None


def _named(unit: str) -> str:
    """The name of a unit: currencies by their codes, in capitals."""
    parts = unit.split("/")
    return "/".join(
        part.upper() if part in CURRENCIES.values() else _UNITS.get(part, part) for part in parts
    )


def _decimals(form: Form, figures: Sequence[Figure], value: Decimal) -> int:
    """Decimals to show: those of the figures for sums, few for quotients."""
    own = max(_decimals_of(each) for each in figures)
    if form.name in ("difference", "points", "sum", "product"):
        return own
    if form.name == "ratio" or abs(value) < 1:
        return 2
    return max(own, 2) if form.name == "per" else max(1, own if form.name == "mean" else 1)


def _decimals_of(figure: Figure) -> int:
    base = _base(figure)
    exponent = base.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _base(figure: Figure) -> Decimal:
    """The number of a figure's digits, without its scale."""
    value = abs(figure.value)
    [read] = tokens_of(figure.digits)
    assert isinstance(read, Quantity)
    for base in sorted(read.values, reverse=not figure.has_point):
        if base == value or (base and _is_power_of_ten(value / base)):
            return base
    return value


def _is_power_of_ten(factor: Decimal) -> bool:
    return factor >= 1 and factor == Decimal(1).scaleb(factor.adjusted())


def _in_words(form: Form, figures: Sequence[Figure], found: Measure, decimals: int) -> str:
    """The value in words: as the figures are written if it has their unit."""
    comma = any(_has_decimal_comma(each) for each in figures)
    first = figures[0]
    if form.name in ("difference", "sum", "mean", "per") and found.unit == first.quantity.unit:
        scale = abs(first.value) / _base(first) if _base(first) else Decimal(1)
        digits = _written(
            found.value / scale, _scaled_decimals(form, figures, scale, decimals), comma
        )
        bare = first.written.strip("()").lstrip("-")
        sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
        return sign + bare.replace(first.digits, digits, 1)
    return f"{_written(found.value, decimals, comma)} {_named(found.unit or '')}".rstrip()


def _scaled_decimals(form: Form, figures: Sequence[Figure], scale: Decimal, decimals: int) -> int:
    """Decimals of a value in one scale, so that no figure of a smaller scale is rounded away."""
    if form.name not in ("difference", "sum"):
        return decimals
    exponents = [
        Decimal(1).scaleb(-_decimals_of(each)) * (abs(each.value) / _base(each))
        for each in figures
        if _base(each)
    ]
    finest = min(exponents, default=Decimal(1)) / scale
    return max(0, -finest.adjusted())


def _has_decimal_comma(figure: Figure) -> bool:
    whole, comma, rest = figure.digits.rpartition(",")
    return bool(comma) and "." not in rest and _decimals_of(figure) == len(rest) and whole != ""


def _written(value: Decimal, decimals: int, comma: bool) -> str:
    """A number with separators of thousands, and without zeros that a quotient ends with."""
    text = f"{value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP):,f}"
    if text.strip("-0.,") == "":
        text = text.lstrip("-")
    return text.translate(str.maketrans(",.", ".,")) if comma else text
