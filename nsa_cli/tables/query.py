"""Queries over one table: what to compute of which rows."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from nsa_cli.tables.columns import TypedTable
from nsa_cli.tables.dates import MONTH_NAMES
from nsa_cli.tables.numbers import number_text
from nsa_cli.tables.words import folded

Operation = Literal[
    "count", "distinct", "sum", "mean", "median", "min", "max", "top", "bottom", "share", "values"
]
Test = Literal["eq", "ne", "lt", "le", "gt", "ge", "between", "blank", "filled", "months", "yes"]
Part = Literal["year", "quarter", "month"]
Value = str | Decimal | datetime.date | int

_SIGNS = {"eq": "is", "ne": "is not", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_DATE_SIGNS = {**_SIGNS, "lt": "before", "le": "until", "gt": "after", "ge": "from"}


@dataclass(frozen=True, slots=True)
class Condition:
    """What a row must meet.

    Attributes:
        column: Index of the column.
        test: How its cell is compared.
        values: With what: one value; several of which one must be met; two bounds for `between`;
            months from 1 to 12 for `months`; 1 or 0 for `yes`.
    """

    column: int
    test: Test
    values: tuple[Value, ...] = ()

    def words(self, table: TypedTable) -> str:
        """The condition in words, such as `Region is West`."""
        column = table.columns[self.column]
        plain = column.is_year or column.is_key
        shown = [str(value) if plain else _shown(value) for value in self.values]
        if self.test in ("blank", "filled"):
            return f"{column.name} is {'blank' if self.test == 'blank' else 'not blank'}"
        if self.test == "yes":
            said = {cell for cell in column.cells if folded(cell)}
            wanted = bool(self.values[0])
            words = sorted(cell for cell in said if column.says(cell) == wanted)
            return f"{column.name} is {' or '.join(words) or ('yes' if wanted else 'no')}"
        if self.test == "between":
            return f"{column.name} is from {shown[0]} to {shown[1]}"
        if self.test == "months":
            names = " or ".join(MONTH_NAMES[int(value) - 1] for value in self.values)  # type: ignore[arg-type]
            return f"{column.name} is in {names}"
        signs = _DATE_SIGNS if column.kind == "date" else _SIGNS
        joint = " or " if self.test == "eq" else " and "
        return f"{column.name} {signs[self.test]} {joint.join(shown)}"


@dataclass(frozen=True, slots=True)
class Group:
    """What rows are grouped by.

    Attributes:
        column: Index of the column.
        part: Part of its dates; None for its values.
    """

    column: int
    part: Part | None = None

    def words(self, table: TypedTable) -> str:
        """The grouping in words, such as `month of Date`."""
        name = table.columns[self.column].name
        return f"{self.part} of {name}" if self.part else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to compute.

    Attributes:
        operation: What to compute.
        column: Index of the column to compute it of; None to count rows.
        conditions: What rows must meet, all of it.
        group: Compute it for each group.
        order: Keep the groups with the greatest (`desc`) or least (`asc`) results.
        limit: How many rows or groups to keep; None for all.
        shown: Columns whose cells of the rows found belong to the answer.
        loose: Whether `distinct` may as well mean the number of rows.
        asked: Whether the question asks which rows hold an extreme, rather than for the extreme.
    """

    operation: Operation
    column: int | None = None
    conditions: tuple[Condition, ...] = ()
    group: Group | None = None
    order: Literal["desc", "asc"] | None = None
    limit: int | None = None
    shown: tuple[int, ...] = ()
    asked: bool = False
    loose: bool = False


def conditions_in_words(conditions: Sequence[Condition], table: TypedTable) -> str:
    """Conditions in words after `where`; empty without any."""
    words = " and ".join(condition.words(table) for condition in conditions)
    return f" where {words}" if words else ""


def _shown(value: Value) -> str:
    if isinstance(value, Decimal):
        return number_text(value)
    return str(value)
