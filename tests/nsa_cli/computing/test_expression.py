"""Expressions are evaluated exactly, with units; anything else is refused."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.computing.expression import ExpressionError, Measure, evaluate

NUMBERS = st.decimals(0, 10**9, places=2).map(lambda x: f"{x:,f}") | st.integers(0, 10**6).map(str)
Tree = str | tuple["Tree", str, "Tree"]
TREES: st.SearchStrategy[Tree] = st.recursive(
    NUMBERS,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner),
    max_leaves=8,
)


def written(tree: Tree) -> str:
    if isinstance(tree, str):
        return tree
    return f"({written(tree[0])} {tree[1]} {written(tree[2])})"


def exact(tree: Tree) -> Fraction:
    if isinstance(tree, str):
        return Fraction(tree.replace(",", ""))
    left, sign, right = exact(tree[0]), tree[1], exact(tree[2])
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    return left * right if sign == "*" else left / right


def size(tree: Tree) -> Fraction:
    """The greatest magnitude in a tree; what is lost by rounding is a part of it."""
    if isinstance(tree, str):
        return abs(exact(tree))
    return max(abs(exact(tree)), size(tree[0]), size(tree[2]))


@given(TREES)
def test_values_are_those_of_fractions(tree: Tree) -> None:
    try:
        expected, greatest = exact(tree), size(tree)
    except ZeroDivisionError:
        with pytest.raises(ExpressionError, match="no value"):
            evaluate(written(tree))
        return
    if greatest > 10**20 or any(abs(exact(each)) < Fraction(1, 10**6) for each in divisors(tree)):
        return  # rounding to 50 digits may show
    found = Fraction(evaluate(written(tree)).value)
    assert abs(found - expected) <= Fraction(1, 10**15) * max(1, greatest)


def divisors(tree: Tree) -> list[Tree]:
    if isinstance(tree, str):
        return []
    own = [tree[2]] if tree[1] == "/" else []
    return [*own, *divisors(tree[0]), *divisors(tree[2])]


@pytest.mark.parametrize(
    ("expression", "value", "unit"),
    [
        ("8,120 - 7,455", "665", None),
        ("14.1 million euros - 12,400 thousand euros", "1700000", "eur"),
        ("3 × $1.5bn ÷ 2", "2250000000", "usd"),
        ("14.0 % - 12.5 %", "1.5", "points"),
        ("12 % + 3 %", "15", "percent"),
        ("12 % / 3", "4", "percent"),
        ("5% * 200 euros", "10", "eur"),
        ("1 + 5 %", "1.05", None),
        ("300 / 5 %", "6000", None),
        ("310 / 1,250 * 100", "24.8", "percent"),
        ("100 × (3 kg / 4 kg)", "75", "percent"),
        ("1,500 euros / 30 days", "50", "eur/day"),
        ("8,120 - (-1,234)", "9354", None),
        ("3 -2", "1", None),
        ("-(2) - -3", "1", None),
        ("2 ** 10 ^ 1", "1024", None),
        ("min(3, 4 eur, 5)", "3", "eur"),
        ("max(1, 2) * abs(-4)", "8", None),
        ("round(10 / 4, 1) + round(2.6)", "5.5", None),
        ("3,9 Mio. € - 3,2 Mio. €", "700000", "eur"),
    ],
)
def test_scales_and_units_are_carried(expression: str, value: str, unit: str | None) -> None:
    found = evaluate(expression)
    assert (found.value, found.unit) == (Decimal(value), unit)


def test_the_issue_s_example() -> None:
    found = evaluate("365 × 1,204 / 10,667")
    assert round(found.value, 1) == Decimal("41.2")
    assert evaluate("2 / 4") == Measure(Decimal("0.5"), None, is_ratio=True)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "not an arithmetic"),
        ("none", "only numbers"),
        ("revenue - 3", "only numbers"),
        ("__import__('os').system('x')", "only numbers"),
        ("(1).real", "only numbers"),
        ("[1, 2]", "only numbers"),
        ("1 if 2 else 3", "only numbers"),
        ("3 < 4", "only numbers"),
        ("7 // 2", "only numbers"),
        ("True", "only numbers"),
        ("min()", "only numbers"),
        ("round(2, ndigits=1)", "only numbers"),
        ("sum(1, 2)", "no function sum"),
        ("abs(1, 2)", "no function abs with 2"),
        ("round(2, 0.5)", "decimals from 0 to 12"),
        ("3 million - (2 million", "not an arithmetic"),
        ("2 2", "not an arithmetic"),
        ("14.1 - 12.4 = 1.7", "not an arithmetic"),
        ("1e5", "cannot be read"),
        ("v1.8.9 + 1", "cannot be read"),
        ("10 EUR + 3 USD", "different units: eur, usd"),
        ("10 EUR * 3 days", "eur cannot be multiplied by day"),
        ("2 kg ** 2", "a power has no units"),
        ("min(2 kg, 3 days)", "different units"),
        ("1 / 0", "no value"),
        ("1 / (2 - 2)", "no value"),
        ("(-8) ** 0.5", "no value"),
        ("9 ** 65", "an exponent is above 64"),
        ("9 ** 9 ** 9", "an exponent is above 64"),
        ("(99 ** 64) ** 64", "too large|no value"),
        ("1" + "0" * 41, "too large"),
        ("1 + " * 101, "more than 400 characters"),
        ("1+" * 99 + "1", "too long"),
    ],
)
def test_anything_else_is_refused(expression: str, why: str) -> None:
    with pytest.raises(ExpressionError, match=why):
        evaluate(expression)
